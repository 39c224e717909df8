package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// franzTxn is a producer with an open transaction.
type franzTxn struct {
	client *kgo.Client
	id     string
}

func (f *franz) begin(r Request) (any, error) {
	client := f.newClient(kgo.TransactionalID(r.TxnID), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := client.BeginTransaction(); err != nil {
		return nil, err
	}
	var records []*kgo.Record
	for i, record := range r.Records {
		records = append(records, &kgo.Record{
			Topic: r.Topic, Partition: int32(i) % r.Partitions, Key: []byte(record.Key), Value: []byte(record.Value),
		})
	}
	ctx, cancel := deadline()
	defer cancel()
	f.open[r.Producer] = franzTxn{client, r.TxnID}
	return Nothing, client.ProduceSync(ctx, records...).FirstErr()
}

func (f *franz) end(r Request) (any, error) {
	open := f.open[r.Producer]
	delete(f.open, r.Producer)
	defer open.client.Close()
	ctx, cancel := deadline()
	defer cancel()
	if r.Offsets != nil {
		if err := open.sendOffsets(ctx, r); err != nil {
			return nil, err
		}
	}
	return Nothing, open.client.EndTransaction(ctx, kgo.TransactionEndTry(r.Committed))
}

// sendOffsets does by hand what a GroupTransactSession does for the group that it is a member of.
func (t franzTxn) sendOffsets(ctx context.Context, r Request) error {
	client := t.client
	id, epoch, err := client.ProducerID(ctx)
	if err != nil {
		return err
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = t.id, id, epoch, r.Group
	added, err := add.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(added.ErrorCode)
	}
	if err != nil {
		return err
	}
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch, commit.Group = t.id, id, epoch, r.Group
	commit.Generation = -1
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic = r.Topic
	for number, offset := range r.Offsets {
		partition := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		partition.Partition, partition.Offset = number, offset
		topic.Partitions = append(topic.Partitions, partition)
	}
	commit.Topics = append(commit.Topics, topic)
	for {
		committed, err := commit.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		err = kerr.ErrorForCode(committed.Topics[0].Partitions[0].ErrorCode)
		if !kerr.IsRetriable(err) {
			return err
		}
		time.Sleep(10 * time.Millisecond) // the coordinator is being loaded
	}
}
