package main

import (
	"context"
	"errors"
	"io"
	"log"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

var saramaCodecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

// saramaDriver is IBM/sarama, at the newest protocol that it knows.
type saramaDriver struct {
	address string
	members map[string]*saramaMember
	open    map[string]sarama.SyncProducer // those with an open transaction, by the test's names for them
}

func saramaOperations(address string) map[string]operation {
	sarama.Logger = log.New(io.Discard, "", 0)
	s := &saramaDriver{address: address, members: map[string]*saramaMember{}, open: map[string]sarama.SyncProducer{}}
	return map[string]operation{
		"hello": func(Request) (any, error) {
			codecs := []string{"none", "gzip", "snappy", "lz4", "zstd"}
			return map[string]any{"version": versionOf("github.com/IBM/sarama"), "codecs": codecs}, nil
		},
		"produce":              s.produce,
		"read":                 s.read,
		"begin":                s.begin,
		"end":                  s.end,
		"join":                 s.join,
		"look":                 s.look,
		"commit":               s.commit,
		"leave":                s.leave,
		"create_topic":         s.withAdmin(saramaCreateTopic),
		"delete_topic":         s.withAdmin(saramaDeleteTopic),
		"list_topics":          s.withAdmin(saramaListTopics),
		"describe_topic":       s.withAdmin(saramaDescribeTopic),
		"create_partitions":    s.withAdmin(saramaCreatePartitions),
		"describe_cluster":     s.withAdmin(saramaDescribeCluster),
		"describe_configs":     s.withAdmin(saramaDescribeConfigs),
		"alter_configs":        s.withAdmin(saramaAlterConfigs),
		"replace_configs":      s.withAdmin(saramaReplaceConfigs),
		"list_groups":          s.withAdmin(saramaListGroups),
		"describe_group":       s.withAdmin(saramaDescribeGroup),
		"delete_group":         s.withAdmin(saramaDeleteGroup),
		"group_offsets":        s.withAdmin(saramaGroupOffsets),
		"alter_group_offsets":  s.withAdmin(saramaAlterGroupOffsets),
		"delete_group_offsets": s.withAdmin(saramaDeleteGroupOffsets),
		"list_offsets":         s.withAdmin(saramaListOffsets),
		"delete_records":       s.withAdmin(saramaDeleteRecords),
		"describe_log_dirs":    s.withAdmin(saramaDescribeLogDirs),
		"elect_leaders":        s.withAdmin(saramaElectLeaders),
		"list_reassignments":   s.withAdmin(saramaListReassignments),
		"alter_quotas":         s.withAdmin(saramaAlterQuotas),
		"describe_quotas":      s.withAdmin(saramaDescribeQuotas),
	}
}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	config.Consumer.Return.Errors = true
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	return config
}

func (s *saramaDriver) produce(r Request) (any, error) {
	config := saramaConfig()
	config.Producer.Compression = saramaCodecs[r.Codec]
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	config.Producer.Retry.Max = 100 // for as long as a broker needs to lead its partitions after a restart
	if r.Idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	producer, err := sarama.NewSyncProducer([]string{s.address}, config)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	var messages []*sarama.ProducerMessage
	for i, record := range r.Records {
		var headers []sarama.RecordHeader
		for key, value := range record.Headers {
			headers = append(headers, sarama.RecordHeader{Key: []byte(key), Value: []byte(value)})
		}
		messages = append(messages, &sarama.ProducerMessage{
			Topic: r.Topic, Partition: int32(i) % r.Partitions, Headers: headers,
			Key: sarama.StringEncoder(record.Key), Value: sarama.StringEncoder(record.Value),
		})
	}
	return Nothing, producer.SendMessages(messages)
}

func saramaRecord(message *sarama.ConsumerMessage) Record {
	headers := map[string]string{}
	for _, header := range message.Headers {
		headers[string(header.Key)] = string(header.Value)
	}
	return Record{
		Partition: message.Partition, Offset: message.Offset, Headers: headers,
		Key: string(message.Key), Value: string(message.Value),
	}
}

func (s *saramaDriver) read(r Request) (any, error) {
	consumer, err := sarama.NewConsumer([]string{s.address}, saramaConfig())
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	arrived, failed := make(chan Record), make(chan error)
	ctx, cancel := deadline()
	defer cancel()
	for partition := range r.Partitions {
		from, err := consumer.ConsumePartition(r.Topic, partition, sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		defer from.Close()
		go forward(ctx, from, arrived, failed)
	}
	records := []Record{}
	for len(records) < r.Count {
		select {
		case record := <-arrived:
			records = append(records, record)
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return records, nil
}

func forward(ctx context.Context, from sarama.PartitionConsumer, arrived chan<- Record, failed chan<- error) {
	for {
		select {
		case message := <-from.Messages():
			if message != nil {
				select {
				case arrived <- saramaRecord(message):
				case <-ctx.Done():
				}
			}
		case err := <-from.Errors():
			if err != nil {
				select {
				case failed <- err:
				case <-ctx.Done():
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// saramaMember is one consumer of a group; sarama calls Setup, ConsumeClaim and Cleanup for each of its sessions.
type saramaMember struct {
	group   sarama.ConsumerGroup
	cancel  context.CancelFunc
	stopped chan struct{}
	lock    sync.Mutex
	share   []int32
	session sarama.ConsumerGroupSession
	values  []string
	failure error
}

func (s *saramaDriver) join(r Request) (any, error) {
	group, err := sarama.NewConsumerGroup([]string{s.address}, r.Group, saramaConfig())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &saramaMember{group: group, cancel: cancel, stopped: make(chan struct{}), share: []int32{}, values: []string{}}
	s.members[r.Member] = m
	go func() {
		for range group.Errors() { // what Consume tells again, and what its retries have dealt with
		}
	}()
	go m.consume(ctx, r.Topic)
	return Nothing, nil
}

func (m *saramaMember) consume(ctx context.Context, topic string) {
	defer close(m.stopped)
	for ctx.Err() == nil {
		if err := m.group.Consume(ctx, []string{topic}, m); err != nil {
			if errors.Is(err, sarama.ErrClosedConsumerGroup) {
				return
			}
			// While the broker is down there is nothing to consume: sarama leaves it to its user to call again.
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// Setup takes note of a new session's share. (sarama.ConsumerGroupHandler)
func (m *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session, m.share = session, []int32{}
	for _, partitions := range session.Claims() {
		m.share = append(m.share, partitions...)
	}
	return nil
}

// Cleanup forgets the share. (sarama.ConsumerGroupHandler)
func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session, m.share = nil, []int32{}
	return nil
}

// ConsumeClaim keeps what a partition brings. (sarama.ConsumerGroupHandler)
func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		m.lock.Lock()
		m.values = append(m.values, string(message.Value))
		m.lock.Unlock()
		session.MarkMessage(message, "")
	}
	return nil
}

func (s *saramaDriver) look(r Request) (any, error) {
	m := s.members[r.Member]
	m.lock.Lock()
	defer m.lock.Unlock()
	answer := map[string]any{"partitions": append([]int32{}, m.share...), "values": append([]string{}, m.values...)}
	return answer, m.failure
}

func (s *saramaDriver) commit(r Request) (any, error) {
	m := s.members[r.Member]
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.session == nil {
		return nil, errors.New("the member has no session to commit in")
	}
	m.session.Commit()
	return Nothing, nil
}

func (s *saramaDriver) leave(r Request) (any, error) {
	m := s.members[r.Member]
	delete(s.members, r.Member)
	m.cancel()
	<-m.stopped
	return Nothing, m.group.Close()
}
