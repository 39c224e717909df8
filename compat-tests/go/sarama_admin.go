package main

import (
	"errors"
	"strconv"

	"github.com/IBM/sarama"
)

type saramaCall func(sarama.ClusterAdmin, Request) (any, error)

// withAdmin makes a call with an admin client of its own: one that was made before a restart may be cut off.
func (s *saramaDriver) withAdmin(call saramaCall) operation {
	return func(r Request) (any, error) {
		admin, err := sarama.NewClusterAdmin([]string{s.address}, saramaConfig())
		if err != nil {
			return nil, err
		}
		defer admin.Close()
		return call(admin, r)
	}
}

func partitionsOf(r Request) []int32 {
	partitions := []int32{}
	for partition := range r.Partitions {
		partitions = append(partitions, partition)
	}
	return partitions
}

// failureOf is nil for the code of success.
func failureOf(code sarama.KError) error {
	if code == sarama.ErrNoError {
		return nil
	}
	return code
}

func resourceOf(r Request) sarama.ConfigResourceType {
	if r.Kind == "broker" {
		return sarama.BrokerResource
	}
	return sarama.TopicResource
}

func saramaCreateTopic(admin sarama.ClusterAdmin, r Request) (any, error) {
	detail := &sarama.TopicDetail{
		NumPartitions: r.Partitions, ReplicationFactor: max(r.Replicas, 1), ConfigEntries: stringsOf(r.Configs),
	}
	return Nothing, admin.CreateTopic(r.Topic, detail, false)
}

func saramaDeleteTopic(admin sarama.ClusterAdmin, r Request) (any, error) {
	return Nothing, admin.DeleteTopic(r.Topic)
}

func saramaListTopics(admin sarama.ClusterAdmin, _ Request) (any, error) {
	topics, err := admin.ListTopics()
	names := []string{}
	for name := range topics {
		names = append(names, name)
	}
	return names, err
}

func saramaDescribeTopic(admin sarama.ClusterAdmin, r Request) (any, error) {
	topics, err := admin.DescribeTopics([]string{r.Topic})
	if err != nil {
		return nil, err
	}
	return map[string]any{"partitions": len(topics[0].Partitions)}, failureOf(topics[0].Err)
}

func saramaCreatePartitions(admin sarama.ClusterAdmin, r Request) (any, error) {
	return Nothing, admin.CreatePartitions(r.Topic, r.Partitions, nil, false)
}

func saramaDescribeCluster(admin sarama.ClusterAdmin, _ Request) (any, error) {
	brokers, controller, err := admin.DescribeCluster()
	ids := []int32{}
	for _, broker := range brokers {
		ids = append(ids, broker.ID())
	}
	return map[string]any{"brokers": ids, "controller": controller}, err
}

func saramaDescribeConfigs(admin sarama.ClusterAdmin, r Request) (any, error) {
	resource := &sarama.ConfigResource{Type: resourceOf(r), Name: r.Name}
	described, err := admin.DescribeConfigs([]*sarama.ConfigResource{resource}, sarama.DescribeConfigsOptions{})
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, entry := range described[0].Configs {
		values[entry.Name] = entry.Value
	}
	return values, failureOf(described[0].ErrorCode)
}

func saramaAlterConfigs(admin sarama.ClusterAdmin, r Request) (any, error) {
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for name, value := range stringsOf(r.Configs) {
		entries[name] = sarama.IncrementalAlterConfigsEntry{
			Operation: sarama.IncrementalAlterConfigsOperationSet, Value: value,
		}
	}
	return Nothing, admin.IncrementalAlterConfig(resourceOf(r), r.Name, entries, false)
}

func saramaReplaceConfigs(admin sarama.ClusterAdmin, r Request) (any, error) {
	return Nothing, admin.AlterConfig(resourceOf(r), r.Name, stringsOf(r.Configs), false)
}

func saramaListGroups(admin sarama.ClusterAdmin, _ Request) (any, error) {
	groups, err := admin.ListConsumerGroups()
	names := []string{}
	for name := range groups {
		names = append(names, name)
	}
	return names, err
}

func saramaDescribeGroup(admin sarama.ClusterAdmin, r Request) (any, error) {
	groups, err := admin.DescribeConsumerGroups([]string{r.Group})
	if err != nil {
		return nil, err
	}
	return map[string]any{"state": groups[0].State, "members": len(groups[0].Members)}, failureOf(groups[0].Err)
}

func saramaDeleteGroup(admin sarama.ClusterAdmin, r Request) (any, error) {
	return Nothing, admin.DeleteConsumerGroup(r.Group)
}

func saramaGroupOffsets(admin sarama.ClusterAdmin, r Request) (any, error) {
	asked := map[string][]int32{r.Topic: partitionsOf(r)}
	fetched, err := admin.ListConsumerGroupOffsets(r.Group, asked)
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for partition := range r.Partitions {
		block := fetched.GetBlock(r.Topic, partition)
		if block == nil {
			continue
		}
		if block.Err != sarama.ErrNoError {
			return nil, block.Err
		}
		if block.Offset >= 0 {
			offsets[partition] = block.Offset
		}
	}
	return offsets, nil
}

func saramaAlterGroupOffsets(admin sarama.ClusterAdmin, r Request) (any, error) {
	offsets := map[int32]sarama.OffsetAndMetadata{}
	for partition, offset := range r.Offsets {
		offsets[partition] = sarama.OffsetAndMetadata{Offset: offset, LeaderEpoch: -1}
	}
	asked := map[string]map[int32]sarama.OffsetAndMetadata{r.Topic: offsets}
	answered, err := admin.AlterConsumerGroupOffsets(r.Group, asked, nil)
	if err != nil {
		return nil, err
	}
	for _, code := range answered.Errors[r.Topic] {
		err = failureOf(code)
	}
	return Nothing, err
}

func saramaDeleteGroupOffsets(admin sarama.ClusterAdmin, r Request) (any, error) {
	for partition := range r.Partitions {
		if err := admin.DeleteConsumerGroupOffset(r.Group, r.Topic, partition); err != nil {
			return nil, err
		}
	}
	return Nothing, nil
}

func saramaListOffsets(admin sarama.ClusterAdmin, r Request) (any, error) {
	at := sarama.OffsetNewest
	if r.Spec == "earliest" {
		at = sarama.OffsetOldest
	}
	asked := map[int32]int64{}
	for partition := range r.Partitions {
		asked[partition] = at
	}
	listed, err := admin.ListOffsets(map[string]map[int32]int64{r.Topic: asked}, nil)
	offsets := map[int32]int64{}
	for partition, result := range listed[r.Topic] {
		offsets[partition] = result.Offset
		if result.Err != nil && !errors.Is(result.Err, sarama.ErrNoError) {
			err = result.Err
		}
	}
	return offsets, err
}

func saramaDeleteRecords(admin sarama.ClusterAdmin, r Request) (any, error) {
	return Nothing, admin.DeleteRecords(r.Topic, r.Offsets)
}

func saramaDescribeLogDirs(admin sarama.ClusterAdmin, r Request) (any, error) {
	id, _ := strconv.Atoi(r.Name)
	described, err := admin.DescribeLogDirs([]int32{int32(id)})
	sizes := map[int32]int64{}
	for _, dirs := range described {
		for _, dir := range dirs {
			for _, topic := range dir.Topics {
				if topic.Topic != r.Topic {
					continue
				}
				for _, partition := range topic.Partitions {
					sizes[partition.PartitionID] = partition.Size
				}
			}
		}
	}
	return sizes, err
}

func saramaElectLeaders(admin sarama.ClusterAdmin, r Request) (any, error) {
	elected, err := admin.ElectLeaders(sarama.PreferredElection, map[string][]int32{r.Topic: partitionsOf(r)})
	codes := map[int32]int16{}
	for partition, result := range elected[r.Topic] {
		codes[partition] = int16(result.ErrorCode)
	}
	return codes, err
}

func saramaListReassignments(admin sarama.ClusterAdmin, r Request) (any, error) {
	listed, err := admin.ListPartitionReassignments(r.Topic, partitionsOf(r))
	return len(listed[r.Topic]), err
}

func saramaAlterQuotas(admin sarama.ClusterAdmin, r Request) (any, error) {
	entity := []sarama.QuotaEntityComponent{}
	for kind, name := range r.Entity {
		entity = append(entity, sarama.QuotaEntityComponent{EntityType: sarama.QuotaEntityType(kind), Name: name})
	}
	for key, value := range r.Limits {
		change := sarama.ClientQuotasOp{Key: key, Remove: value == nil}
		if value != nil {
			change.Value = *value
		}
		if err := admin.AlterClientQuotas(entity, change, false); err != nil {
			return nil, err
		}
	}
	return Nothing, nil
}

func saramaDescribeQuotas(admin sarama.ClusterAdmin, r Request) (any, error) {
	components := []sarama.QuotaFilterComponent{}
	for kind, name := range r.Entity {
		components = append(components, sarama.QuotaFilterComponent{EntityType: sarama.QuotaEntityType(kind), Match: name})
	}
	described, err := admin.DescribeClientQuotas(components, true)
	limits := map[string]float64{}
	for _, entry := range described {
		for key, value := range entry.Values {
			limits[key] = value
		}
	}
	return limits, err
}
