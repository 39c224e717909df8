// kafkajs, with codecs as its documentation tells users to add them.
'use strict';

const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, Partitioners, logLevel } = require('kafkajs');
const { ZstdCodec } = require('zstd-codec');
const { Condition, Members, byPartition, fromMessage, keep, toMessages, toOffsets } = require('./records.js');

const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP };

async function addCodecs() {
  CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy');
  CODECS.snappy = CompressionTypes.Snappy;
  const zstd = await new Promise((resolve) => ZstdCodec.run(resolve));
  const streaming = new zstd.Streaming(); // others' frames do not always say how large their content is
  const compress = async (encoder) => Buffer.from(streaming.compress(encoder.buffer));
  const decompress = async (buffer) => Buffer.from(streaming.decompress(buffer));
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({ compress, decompress });
  CODECS.zstd = CompressionTypes.ZSTD;
  try {
    const LZ4 = require('kafkajs-lz4'); // needs a compiler where it is installed
    CompressionCodecs[CompressionTypes.LZ4] = new LZ4().codec;
    CODECS.lz4 = CompressionTypes.LZ4;
  } catch {
    // "hello" says that there is none
  }
}

function recordOperations(kafka) {
  return {
    hello: () => ({ version: require('kafkajs/package.json').version, codecs: Object.keys(CODECS) }),

    produce: async (request) => {
      const producer = kafka.producer({
        idempotent: request.idempotent,
        maxInFlightRequests: 1,
        createPartitioner: Partitioners.DefaultPartitioner,
      });
      await producer.connect();
      try {
        const compression = CODECS[request.codec];
        await producer.send({ topic: request.topic, acks: -1, compression, messages: toMessages(request) });
      } finally {
        await producer.disconnect();
      }
    },

    // kafkajs reads in groups only, so this is one of its own, with the whole topic.
    read: async ({ topic, count }) => {
      const consumer = kafka.consumer({ groupId: `read-${topic}-${Math.random()}`, maxWaitTimeInMs: 100 });
      const records = [];
      const enough = new Condition(() => records.length >= count);
      await consumer.connect();
      try {
        await consumer.subscribe({ topic, fromBeginning: true });
        const eachMessage = async (each) => {
          records.push(fromMessage(each));
          enough.poke();
        };
        await consumer.run({ eachMessage, autoCommit: false });
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
      const producer = kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1, retry: { retries: 20 } });
      await producer.connect();
      const transaction = await producer.transaction();
      await transaction.send({ topic, acks: -1, messages: toMessages(request) });
      open.set(name, { producer, transaction });
    },
    end: async ({ producer: name, committed, group, topic, offsets }) => {
      const { producer, transaction } = open.get(name);
      try {
        if (offsets) {
          const topics = [{ topic, partitions: toOffsets(offsets) }];
          await transaction.sendOffsets({ consumerGroupId: group, topics });
        }
        await (committed ? transaction.commit() : transaction.abort());
      } finally {
        await producer.disconnect();
      }
    },
  };
}

async function startMember(kafka, member, { topic, group }) {
  const consumer = kafka.consumer({
    groupId: group,
    heartbeatInterval: 300,
    maxWaitTimeInMs: 100,
    retry: { retries: 100, maxRetryTime: 500 },
  });
  const { GROUP_JOIN, REBALANCING, CRASH } = consumer.events;
  let partitions = [];
  consumer.on(GROUP_JOIN, ({ payload }) => (partitions = payload.memberAssignment[topic] ?? []));
  consumer.on(REBALANCING, () => (partitions = []));
  consumer.on(CRASH, ({ payload }) => (member.failure = payload.restart ? undefined : payload.error));
  Object.assign(member, { consumer, share: () => partitions });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({ autoCommit: false, eachMessage: keep(member) });
}

function topicOperations(admin) {
  return {
    create_topic: async ({ topic, partitions, replicas, configs }) => {
      const configEntries = Object.entries(configs ?? {}).map(([name, value]) => ({ name, value }));
      const wanted = { topic, numPartitions: partitions, replicationFactor: replicas ?? 1, configEntries };
      if (!(await admin.createTopics({ topics: [wanted], waitForLeaders: true }))) {
        throw Object.assign(new Error('false: it is there already'), { code: 36 });
      }
    },
    delete_topic: ({ topic }) => admin.deleteTopics({ topics: [topic] }),
    list_topics: () => admin.listTopics(),
    describe_topic: async ({ topic }) => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
      return { partitions: topics[0].partitions.length };
    },
    create_partitions: ({ topic, partitions }) =>
      admin.createPartitions({ topicPartitions: [{ topic, count: partitions }] }),
    describe_cluster: async () => {
      const { brokers, controller } = await admin.describeCluster();
      return { brokers: brokers.map(({ nodeId }) => nodeId), controller };
    },
    list_offsets: async ({ topic, spec }) => {
      const listed = await admin.fetchTopicOffsets(topic);
      return byPartition(listed, spec === 'earliest' ? ({ low }) => low : ({ high }) => high);
    },
    delete_records: async ({ topic, offsets }) => {
      await admin.fetchTopicOffsets(topic); // kafkajs 2.2.4 looks for leaders before it has asked for them
      await admin.deleteTopicRecords({ topic, partitions: toOffsets(offsets) });
    },
    describe_configs: async ({ kind, name }) => {
      const resource = { type: ConfigResourceTypes[kind.toUpperCase()], name };
      const { resources } = await admin.describeConfigs({ resources: [resource], includeSynonyms: false });
      const entries = resources[0].configEntries.map(({ configName, configValue }) => [configName, configValue]);
      return Object.fromEntries(entries);
    },
    replace_configs: async ({ kind, name, configs }) => {
      const configEntries = Object.entries(configs).map(([key, value]) => ({ name: key, value }));
      const resource = { type: ConfigResourceTypes[kind.toUpperCase()], name, configEntries };
      await admin.alterConfigs({ validateOnly: false, resources: [resource] });
    },
    list_reassignments: async ({ topic, partitions }) => {
      const asked = [{ topic, partitions: [...Array(partitions).keys()] }];
      return (await admin.listPartitionReassignments({ topics: asked })).topics.length;
    },
    alter_reassignments: async ({ topic, name }) => {
      const moved = { topic, partitionAssignment: [{ partition: 0, replicas: [Number(name)] }] };
      await admin.alterPartitionReassignments({ topics: [moved] });
    },
  };
}

function groupOperations(admin) {
  return {
    list_groups: async () => (await admin.listGroups()).groups.map(({ groupId }) => groupId),
    describe_group: async ({ group }) => {
      const { groups } = await admin.describeGroups([group]);
      return { state: groups[0].state, members: groups[0].members.length };
    },
    delete_group: ({ group }) => admin.deleteGroups([group]),
    group_offsets: async ({ group, topic }) => {
      const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
      return byPartition(partitions, ({ offset }) => offset);
    },
    alter_group_offsets: ({ group, topic, offsets }) =>
      admin.setOffsets({ groupId: group, topic, partitions: toOffsets(offsets) }),
  };
}

module.exports = async (address) => {
  await addCodecs();
  const kafka = new Kafka({ brokers: [address], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50 } });
  const admin = kafka.admin();
  const connected = admin.connect();
  const administration = { ...topicOperations(admin), ...groupOperations(admin) };
  const afterConnecting = Object.entries(administration).map(([name, operation]) => [
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
