package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const limit = 60 * time.Second

var franzCodecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

// franz is franz-go: a client for each producer and member, one for administration.
type franz struct {
	address string
	members map[string]*franzMember
	open    map[string]franzTxn // producers with an open transaction, by the test's names for them
	client  *kgo.Client
	admin   *kadm.Client
}

func franzOperations(address string) map[string]operation {
	f := &franz{address: address, members: map[string]*franzMember{}, open: map[string]franzTxn{}}
	f.client = f.newClient()
	f.admin = kadm.NewClient(f.client)
	return map[string]operation{
		"hello": func(Request) (any, error) {
			codecs := []string{"none", "gzip", "snappy", "lz4", "zstd"}
			return map[string]any{"version": versionOf("github.com/twmb/franz-go"), "codecs": codecs}, nil
		},
		"produce":                f.produce,
		"read":                   f.read,
		"begin":                  f.begin,
		"end":                    f.end,
		"join":                   f.join,
		"look":                   f.look,
		"commit":                 f.commit,
		"leave":                  f.leave,
		"create_topic":           f.createTopic,
		"delete_topic":           f.deleteTopic,
		"list_topics":            f.listTopics,
		"describe_topic":         f.describeTopic,
		"create_partitions":      f.createPartitions,
		"describe_cluster":       f.describeCluster,
		"describe_configs":       f.describeConfigs,
		"alter_configs":          f.alterConfigs,
		"replace_configs":        f.replaceConfigs,
		"list_groups":            f.listGroups,
		"describe_group":         f.describeGroup,
		"delete_group":           f.deleteGroup,
		"group_offsets":          f.groupOffsets,
		"alter_group_offsets":    f.alterGroupOffsets,
		"delete_group_offsets":   f.deleteGroupOffsets,
		"list_offsets":           f.listOffsets,
		"delete_records":         f.deleteRecords,
		"describe_log_dirs":      f.describeLogDirs,
		"elect_leaders":          f.electLeaders,
		"list_reassignments":     f.listReassignments,
		"alter_reassignments":    f.alterReassignments,
		"describe_producers":     f.describeProducers,
		"alter_quotas":           f.alterQuotas,
		"describe_quotas":        f.describeQuotas,
		"list_config_resources":  f.listConfigResources,
		"update_features":        f.updateFeatures,
		"end_offset_of_epoch":    f.endOffsetOfEpoch,
		"alter_replica_log_dirs": f.alterReplicaLogDirs,
	}
}

func (f *franz) newClient(options ...kgo.Opt) *kgo.Client {
	fresh := kgo.MetadataMinAge(50 * time.Millisecond) // or a topic that is gone is listed for 5 s
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(f.address), fresh)...)
	if err != nil {
		panic(err)
	}
	return client
}

func deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), limit)
}

func (f *franz) produce(r Request) (any, error) {
	options := []kgo.Opt{
		kgo.ProducerBatchCompression(franzCodecs[r.Codec]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}
	if !r.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	client := f.newClient(options...)
	defer client.Close()
	var records []*kgo.Record
	for i, record := range r.Records {
		var headers []kgo.RecordHeader
		for key, value := range record.Headers {
			headers = append(headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
		}
		records = append(records, &kgo.Record{
			Topic: r.Topic, Partition: int32(i) % r.Partitions, Headers: headers,
			Key: []byte(record.Key), Value: []byte(record.Value),
		})
	}
	ctx, cancel := deadline()
	defer cancel()
	return Nothing, client.ProduceSync(ctx, records...).FirstErr()
}

func franzRecord(record *kgo.Record) Record {
	headers := map[string]string{}
	for _, header := range record.Headers {
		headers[header.Key] = string(header.Value)
	}
	return Record{
		Partition: record.Partition, Offset: record.Offset, Headers: headers,
		Key: string(record.Key), Value: string(record.Value),
	}
}

func (f *franz) read(r Request) (any, error) {
	offsets := map[int32]kgo.Offset{}
	for partition := range r.Partitions {
		offsets[partition] = kgo.NewOffset().AtStart()
	}
	client := f.newClient(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: offsets}))
	defer client.Close()
	ctx, cancel := deadline()
	defer cancel()
	records := []Record{}
	for len(records) < r.Count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(record *kgo.Record) { records = append(records, franzRecord(record)) })
	}
	return records, nil
}

// franzMember is one consumer of a group, polled by a goroutine of its own until it leaves.
type franzMember struct {
	client  *kgo.Client
	stopped chan struct{}
	lock    sync.Mutex
	share   map[int32]bool
	values  []string
	failure error
}

func (f *franz) join(r Request) (any, error) {
	m := &franzMember{stopped: make(chan struct{}), share: map[int32]bool{}, values: []string{}}
	change := func(has bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			m.lock.Lock()
			defer m.lock.Unlock()
			for _, partition := range changed[r.Topic] {
				if has {
					m.share[partition] = true
				} else {
					delete(m.share, partition)
				}
			}
		}
	}
	options := []kgo.Opt{
		kgo.ConsumerGroup(r.Group), kgo.ConsumeTopics(r.Topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)),
	}
	if r.Protocol == "consumer" {
		options = append(options, kgo.ServerSideBalancer())
	}
	m.client = f.newClient(options...)
	f.members[r.Member] = m
	go m.poll()
	return Nothing, nil
}

func (m *franzMember) poll() {
	for {
		fetches := m.client.PollFetches(context.Background())
		if fetches.IsClientClosed() {
			close(m.stopped)
			return
		}
		m.lock.Lock()
		fetches.EachError(func(topic string, partition int32, err error) {
			var session *kgo.ErrGroupSession
			if errors.As(err, &session) {
				return // told for information: the member joins again by itself
			}
			m.failure = fmt.Errorf("%s-%d: %w", topic, partition, err)
		})
		fetches.EachRecord(func(record *kgo.Record) { m.values = append(m.values, string(record.Value)) })
		m.lock.Unlock()
	}
}

func (f *franz) look(r Request) (any, error) {
	m := f.members[r.Member]
	m.lock.Lock()
	defer m.lock.Unlock()
	share := []int32{}
	for partition := range m.share {
		share = append(share, partition)
	}
	return map[string]any{"partitions": share, "values": append([]string{}, m.values...)}, m.failure
}

func (f *franz) commit(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	return Nothing, f.members[r.Member].client.CommitUncommittedOffsets(ctx)
}

func (f *franz) leave(r Request) (any, error) {
	m := f.members[r.Member]
	m.client.Close()
	<-m.stopped
	delete(f.members, r.Member)
	return Nothing, nil
}
