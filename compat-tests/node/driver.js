// A stock client of Apache Kafka, driven by the compatibility tests: `node driver.js kafkajs|confluent HOST:PORT`.
//
// One request a line on stdin, one answer a line on stdout, both JSON; harness/driver.py has the words of it.
'use strict';

const readline = require('node:readline');

async function main(client, address) {
  const operations = await require(`./${client}.js`)(address);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await answer(operations, JSON.parse(line)))}\n`);
  }
  process.exit(0); // members that nobody told to leave: their process ends, as if it had been killed
}

async function answer(operations, request) {
  if (!(request.do in operations)) return { error: { code: null, message: `no such request: ${request.do}` } };
  try {
    return { ok: (await operations[request.do](request)) ?? {} };
  } catch (error) {
    return { error: { code: codeOf(error), message: String(error.stack ?? error) } };
  }
}

// Kafka's error code in an error of either library, or in the first of those that it gathers; null when it has none.
function codeOf(error) {
  const gathered = [...(error.errors ?? []), ...(error.groups ?? []), ...(error.partitions ?? [])];
  const codes = [...gathered, error, error.cause].map((each) => each?.error?.code ?? each?.errorCode ?? each?.code);
  return codes.find((code) => Number.isInteger(code)) ?? null;
}

main(...process.argv.slice(2));
