// @confluentinc/kafka-javascript: librdkafka behind an interface like that of kafkajs.
'use strict';

const client = require('@confluentinc/kafka-javascript');
const { Condition, Members, byPartition, fromMessage, keep, toMessages, toOffsets } = require('./records.js');

const { ConsumerGroupStates, ErrorCodes, Kafka, logLevel } = client.KafkaJS;

const CODECS = ['none', ...['gzip', 'snappy', 'lz4', 'zstd'].filter((codec) => client.features.includes(codec))];

// PREPARING_REBALANCE, by its number, as PreparingRebalance.
function stateName(number) {
  const [name] = Object.entries(ConsumerGroupStates).find(([, each]) => each === number);
  return name.toLowerCase().replace(/(^|_)([a-z])/g, (_, _before, letter) => letter.toUpperCase());
}

const consumerConfig = (groupId) => ({
  kafkaJS: { groupId, fromBeginning: true, autoCommit: false, heartbeatInterval: 300 },
  'fetch.wait.max.ms': 100,
  'topic.metadata.refresh.interval.ms': 1000,
});

function recordOperations(kafka) {
  return {
    hello: () => ({ version: require('@confluentinc/kafka-javascript/package.json').version, codecs: CODECS }),

    produce: async (request) => {
      const producer = kafka.producer({
        kafkaJS: { idempotent: request.idempotent, acks: -1, compression: request.codec },
      });
      await producer.connect();
      try {
        await producer.send({ topic: request.topic, messages: toMessages(request) });
      } finally {
        await producer.disconnect();
      }
    },

    // It reads in groups only, so this is one of its own, with the whole topic.
    read: async ({ topic, count }) => {
      const consumer = kafka.consumer(consumerConfig(`read-${topic}-${Math.random()}`));
      const records = [];
      const enough = new Condition(() => records.length >= count);
      await consumer.connect();
      try {
        await consumer.subscribe({ topic });
        const eachMessage = async (each) => {
          records.push(fromMessage(each));
          enough.poke();
        };
        await consumer.run({ eachMessage });
        await enough.done;
      } finally {
        await consumer.disconnect();
      }
      return records;
    },
  };
}

// Producers with an open transaction, by the test's names for them.
function transactionOperations(kafka) {
  const open = new Map();
  return {
    begin: async ({ producer: name, transactional_id: transactionalId, topic, ...request }) => {
      const producer = kafka.producer({ kafkaJS: { transactionalId, acks: -1 } });
      await producer.connect();
      const transaction = await producer.transaction();
      await transaction.send({ topic, messages: toMessages(request) });
      open.set(name, { producer, transaction });
    },
    end: async ({ producer: name, committed, group, topic, offsets }) => {
      const { producer, transaction } = open.get(name);
      try {
        if (offsets) {
          await sendOffsets(kafka, transaction, group, [{ topic, partitions: toOffsets(offsets) }]);
        }
        await (committed ? transaction.commit() : transaction.abort());
      } finally {
        await producer.disconnect();
      }
    },
  };
}

// It takes a group's name from a consumer only, which need not have joined.
async function sendOffsets(kafka, transaction, group, topics) {
  const consumer = kafka.consumer(consumerConfig(group));
  await consumer.connect();
  try {
    await transaction.sendOffsets({ consumer, topics });
  } finally {
    await consumer.disconnect();
  }
}

async function startMember(kafka, member, { topic, group }) {
  const consumer = kafka.consumer(consumerConfig(group));
  const share = () => {
    try {
      return consumer.assignment().map(({ partition }) => partition);
    } catch (error) {
      if (error.code === ErrorCodes.ERR__STATE) return []; // not connected yet
      throw error;
    }
  };
  Object.assign(member, { consumer, share });
  await consumer.connect();
  await consumer.subscribe({ topic });
  await consumer.run({ eachMessage: keep(member) });
}

function adminOperations(admin) {
  return {
    create_topic: async ({ topic, partitions, replicas, configs }) => {
      const configEntries = Object.entries(configs ?? {}).map(([name, value]) => ({ name, value }));
      const wanted = { topic, numPartitions: partitions, replicationFactor: replicas ?? 1, configEntries };
      if (!(await admin.createTopics({ topics: [wanted] }))) {
        throw Object.assign(new Error('false: it is there already'), { code: 36 });
      }
    },
    delete_topic: ({ topic }) => admin.deleteTopics({ topics: [topic] }),
    list_topics: () => admin.listTopics(),
    describe_topic: async ({ topic }) => {
      const topics = await admin.fetchTopicMetadata({ topics: [topic] });
      return { partitions: topics[0].partitions.length };
    },
    list_offsets: async ({ topic, spec }) => {
      const listed = await admin.fetchTopicOffsets(topic);
      return byPartition(listed, spec === 'earliest' ? ({ low }) => low : ({ high }) => high);
    },
    delete_records: ({ topic, offsets }) => admin.deleteTopicRecords({ topic, partitions: toOffsets(offsets) }),
    list_groups: async () => (await admin.listGroups()).groups.map(({ groupId }) => groupId),
    describe_group: async ({ group }) => {
      const { groups } = await admin.describeGroups([group]);
      return { state: stateName(groups[0].state), members: groups[0].members.length };
    },
    delete_group: ({ group }) => admin.deleteGroups([group]),
    group_offsets: async ({ group, topic }) => {
      const fetched = await admin.fetchOffsets({ groupId: group, topics: [topic] });
      return byPartition(fetched[0]?.partitions ?? [], ({ offset }) => offset ?? -1);
    },
  };
}

module.exports = (address) => {
  const kafka = new Kafka({ kafkaJS: { brokers: [address], logLevel: logLevel.NOTHING } });
  const admin = kafka.admin();
  const connected = admin.connect();
  const afterConnecting = Object.entries(adminOperations(admin)).map(([name, operation]) => [
    name,
    async (request) => {
      await connected;
      return operation(request);
    },
  ]);
  const members = new Members((member, request) => startMember(kafka, member, request));
  const records = { ...recordOperations(kafka), ...transactionOperations(kafka) };
  return { ...records, ...members.operations(), ...Object.fromEntries(afterConnecting) };
};
