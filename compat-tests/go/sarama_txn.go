package main

import "github.com/IBM/sarama"

func (s *saramaDriver) begin(r Request) (any, error) {
	config := saramaConfig()
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	config.Producer.Idempotent = true
	config.Producer.Transaction.ID = r.TxnID
	config.Net.MaxOpenRequests = 1
	producer, err := sarama.NewSyncProducer([]string{s.address}, config)
	if err != nil {
		return nil, err
	}
	s.open[r.Producer] = producer
	if err := producer.BeginTxn(); err != nil {
		return nil, err
	}
	var messages []*sarama.ProducerMessage
	for i, record := range r.Records {
		messages = append(messages, &sarama.ProducerMessage{
			Topic: r.Topic, Partition: int32(i) % r.Partitions,
			Key: sarama.StringEncoder(record.Key), Value: sarama.StringEncoder(record.Value),
		})
	}
	return Nothing, producer.SendMessages(messages)
}

func (s *saramaDriver) end(r Request) (any, error) {
	producer := s.open[r.Producer]
	delete(s.open, r.Producer)
	defer producer.Close()
	if r.Offsets != nil {
		var places []*sarama.PartitionOffsetMetadata
		for partition, offset := range r.Offsets {
			places = append(places, &sarama.PartitionOffsetMetadata{Partition: partition, Offset: offset})
		}
		offsets := map[string][]*sarama.PartitionOffsetMetadata{r.Topic: places}
		if err := producer.AddOffsetsToTxn(offsets, r.Group); err != nil {
			return nil, err
		}
	}
	if r.Committed {
		return Nothing, producer.CommitTxn()
	}
	return Nothing, producer.AbortTxn()
}
