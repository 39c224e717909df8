package main

import (
	"context"
	"fmt"
	"math/rand"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	poison     = "nobody may see this"
	abortOneIn = 12
	pollLimit  = 500 * time.Millisecond
	pollSize   = 40
)

// process is one copy of a read-process-write application, as harness/exactly_once/processor.py is: with the same
// arguments, but for a producer of transaction version 2.
func process(arguments []string) int {
	address, source, target, group, name := arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]
	session, _ := strconv.Atoi(arguments[5])
	seed, _ := strconv.ParseInt(arguments[6], 10, 64)
	chance := rand.New(rand.NewSource(seed))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	timeout := time.Duration(session) * time.Millisecond
	s, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(address), kgo.ClientID(name), kgo.TransactionalID(group+"-"+name),
		kgo.TransactionTimeout(10*time.Second), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(source), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RequireStableFetchOffsets(),
		kgo.SessionTimeout(timeout), kgo.HeartbeatInterval(timeout/4), kgo.FetchMaxWait(50*time.Millisecond),
		kgo.ProducerLinger(2*time.Millisecond), kgo.MaxBufferedRecords(1000),
	)
	if err != nil {
		fmt.Println(name, err)
		return 1
	}
	defer s.Close()
	for ctx.Err() == nil {
		polled, cancel := context.WithTimeout(ctx, pollLimit)
		records := s.PollRecords(polled, pollSize).Records()
		cancel()
		if len(records) == 0 {
			continue
		}
		if err := transact(s, target, records, chance); err != nil {
			fmt.Println(name, err)
			return 1
		}
	}
	return 0
}

// transact writes records and their offsets in one transaction, which is aborted now and then after a record that
// nobody may see.
func transact(s *kgo.GroupTransactSession, target string, records []*kgo.Record, chance *rand.Rand) error {
	if err := s.Begin(); err != nil {
		return err
	}
	failed := kgo.AbortingFirstErrPromise(s.Client())
	for _, record := range records {
		s.Produce(context.Background(), copyOf(target, record.Partition, record.Value), failed.Promise())
	}
	commit := kgo.TryCommit
	if chance.Intn(abortOneIn) == 0 {
		s.Produce(context.Background(), copyOf(target, records[0].Partition, []byte(poison)), failed.Promise())
		s.Client().Flush(context.Background())
		commit = kgo.TryAbort
	}
	if failed.Err() != nil {
		commit = kgo.TryAbort
	}
	limited, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	_, err := s.End(limited, commit)
	return err
}

func copyOf(target string, partition int32, value []byte) *kgo.Record {
	return &kgo.Record{Topic: target, Partition: partition, Value: value}
}
