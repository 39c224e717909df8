// Records, and members of groups, as the tests see them.
'use strict';

const LIMIT_MS = 60_000;

// What a producer is given: record i goes to partition i % partitions.
function toMessages({ records, partitions }) {
  return records.map((record, i) => ({
    partition: i % partitions,
    key: record.key,
    value: record.value,
    headers: record.headers,
  }));
}

function fromMessage({ partition, message }) {
  const headers = Object.entries(message.headers ?? {}).map(([name, value]) => [name, String(value)]);
  return {
    partition,
    offset: Number(message.offset),
    key: String(message.key),
    value: String(message.value),
    headers: Object.fromEntries(headers),
  };
}

// Resolves when `reached` says so, asked again after each `poke`. Rejects after LIMIT_MS.
class Condition {
  constructor(reached) {
    this.done = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`not within ${LIMIT_MS} ms`)), LIMIT_MS);
      this.poke = () => {
        if (!reached()) return;
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

// The members of groups in this process, by name: each a consumer with what it has read and its positions.
class Members {
  constructor(start) {
    this.start = start;
    this.members = new Map();
  }

  operations() {
    return {
      join: async (request) => {
        const member = { values: [], positions: new Map(), share: () => [] };
        this.members.set(request.member, member);
        await this.start(member, request);
      },
      look: ({ member }) => {
        const { share, values, failure } = this.members.get(member);
        if (failure) throw failure;
        return { partitions: share(), values };
      },
      commit: async ({ member }) => {
        const { consumer, positions, topic } = this.members.get(member);
        const offsets = [...positions].map(([partition, offset]) => ({ topic, partition, offset: String(offset) }));
        await consumer.commitOffsets(offsets);
      },
      leave: async ({ member }) => {
        await this.members.get(member).consumer.disconnect();
        this.members.delete(member);
      },
    };
  }
}

// What a consumer of a member does with each record.
function keep(member) {
  return async ({ topic, partition, message }) => {
    member.topic = topic;
    member.values.push(String(message.value));
    member.positions.set(partition, Number(message.offset) + 1);
  };
}

// [{ partition, offset, ... }] as an object; offsets below 0 stand for none.
function byPartition(listed, offsetOf) {
  const pairs = listed.map((each) => [each.partition ?? each.partitionIndex, Number(offsetOf(each))]);
  return Object.fromEntries(pairs.filter(([, offset]) => offset >= 0));
}

const toOffsets = (offsets) =>
  Object.entries(offsets).map(([partition, offset]) => ({ partition: Number(partition), offset: String(offset) }));

module.exports = { Condition, Members, byPartition, fromMessage, keep, toMessages, toOffsets };
