package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
)

func topicSet(topic string, partitions int32) kadm.TopicsSet {
	set := kadm.TopicsSet{}
	for partition := range partitions {
		set.Add(topic, partition)
	}
	return set
}

func (f *franz) offsetsOf(r Request) kadm.Offsets {
	offsets := kadm.Offsets{}
	for partition, offset := range r.Offsets {
		offsets.AddOffset(r.Topic, partition, offset, -1)
	}
	return offsets
}

func (f *franz) createTopic(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	made, err := f.admin.CreateTopics(ctx, r.Partitions, max(r.Replicas, 1), stringsOf(r.Configs), r.Topic)
	if err != nil {
		return nil, err
	}
	return Nothing, made[r.Topic].Err
}

func (f *franz) deleteTopic(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	deleted, err := f.admin.DeleteTopics(ctx, r.Topic)
	if err != nil {
		return nil, err
	}
	return Nothing, deleted[r.Topic].Err
}

func (f *franz) listTopics(Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	topics, err := f.admin.ListTopics(ctx)
	return topics.Names(), err
}

func (f *franz) describeTopic(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	topics, err := f.admin.ListTopics(ctx, r.Topic)
	if err != nil {
		return nil, err
	}
	detail := topics[r.Topic]
	return map[string]any{"partitions": len(detail.Partitions)}, detail.Err
}

func (f *franz) createPartitions(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	made, err := f.admin.UpdatePartitions(ctx, int(r.Partitions), r.Topic)
	if err != nil {
		return nil, err
	}
	return Nothing, made[r.Topic].Err
}

func (f *franz) describeCluster(Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	metadata, err := f.admin.BrokerMetadata(ctx)
	brokers := []int32{}
	for _, broker := range metadata.Brokers {
		brokers = append(brokers, broker.NodeID)
	}
	return map[string]any{"brokers": brokers, "controller": metadata.Controller}, err
}

func (f *franz) describeConfigs(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	var described kadm.ResourceConfigs
	var err error
	if r.Kind == "broker" {
		id, _ := strconv.Atoi(r.Name)
		described, err = f.admin.DescribeBrokerConfigs(ctx, int32(id))
	} else {
		described, err = f.admin.DescribeTopicConfigs(ctx, r.Name)
	}
	if err != nil {
		return nil, err
	}
	values := map[string]*string{}
	for _, config := range described[0].Configs {
		values[config.Key] = config.Value
	}
	return values, described[0].Err
}

func (f *franz) alterConfigs(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	var alter []kadm.AlterConfig
	for name, value := range stringsOf(r.Configs) {
		alter = append(alter, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: value})
	}
	var altered kadm.AlterConfigsResponses
	var err error
	if r.Kind == "broker" {
		id, _ := strconv.Atoi(r.Name)
		altered, err = f.admin.AlterBrokerConfigs(ctx, alter, int32(id))
	} else {
		altered, err = f.admin.AlterTopicConfigs(ctx, alter, r.Name)
	}
	if err != nil {
		return nil, err
	}
	return Nothing, altered[0].Err
}

// replaceConfigs is the older AlterConfigs: what is not named is reset.
func (f *franz) replaceConfigs(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	var alter []kadm.AlterConfig
	for name, value := range stringsOf(r.Configs) {
		alter = append(alter, kadm.AlterConfig{Name: name, Value: value})
	}
	altered, err := f.admin.AlterTopicConfigsState(ctx, alter, r.Name)
	if err != nil {
		return nil, err
	}
	return Nothing, altered[0].Err
}

func (f *franz) listGroups(Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	groups, err := f.admin.ListGroups(ctx)
	return groups.Groups(), err
}

func (f *franz) describeGroup(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	groups, err := f.admin.DescribeGroups(ctx, r.Group)
	if err != nil {
		return nil, err
	}
	group := groups[r.Group]
	return map[string]any{"state": group.State, "members": len(group.Members)}, group.Err
}

func (f *franz) deleteGroup(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	deleted, err := f.admin.DeleteGroups(ctx, r.Group)
	if err != nil {
		return nil, err
	}
	return Nothing, deleted[r.Group].Err
}

func (f *franz) groupOffsets(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	fetched, err := f.admin.FetchOffsets(ctx, r.Group)
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for partition, answer := range fetched[r.Topic] {
		if answer.At >= 0 {
			offsets[partition] = answer.At
		}
	}
	return offsets, fetched.Error()
}

func (f *franz) alterGroupOffsets(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	return Nothing, f.admin.CommitAllOffsets(ctx, r.Group, f.offsetsOf(r))
}

func (f *franz) deleteGroupOffsets(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	deleted, err := f.admin.DeleteOffsets(ctx, r.Group, topicSet(r.Topic, r.Partitions))
	if err != nil {
		return nil, err
	}
	return Nothing, deleted.Error()
}

func (f *franz) listOffsets(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	ask := f.admin.ListEndOffsets
	if r.Spec == "earliest" {
		ask = f.admin.ListStartOffsets
	}
	listed, err := ask(ctx, r.Topic)
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for partition, answer := range listed[r.Topic] {
		offsets[partition] = answer.Offset
	}
	return offsets, listed.Error()
}

func (f *franz) deleteRecords(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	deleted, err := f.admin.DeleteRecords(ctx, f.offsetsOf(r))
	if err != nil {
		return nil, err
	}
	return Nothing, deleted.Error()
}

// describeLogDirs answers with the sizes of a topic's partitions.
func (f *franz) describeLogDirs(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	brokers, err := f.admin.DescribeAllLogDirs(ctx, topicSet(r.Topic, r.Partitions))
	if err != nil {
		return nil, err
	}
	sizes := map[int32]int64{}
	brokers.Each(func(dir kadm.DescribedLogDir) {
		err = dir.Err
		for partition, answer := range dir.Topics[r.Topic] {
			sizes[partition] = answer.Size
		}
	})
	return sizes, err
}

// electLeaders answers with Kafka's error code for each partition, 0 where there was an election.
func (f *franz) electLeaders(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	elected, err := f.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, topicSet(r.Topic, r.Partitions))
	if err != nil {
		return nil, err
	}
	codes := map[int32]any{}
	for partition, result := range elected[r.Topic] {
		codes[partition] = 0
		if result.Err != nil {
			codes[partition] = codeOf(result.Err)
		}
	}
	return codes, nil
}

func (f *franz) listReassignments(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	listed, err := f.admin.ListPartitionReassignments(ctx, topicSet(r.Topic, r.Partitions))
	return len(listed.Sorted()), err
}

// alterReassignments moves partition 0 to the broker that has it, which is nothing to do.
func (f *franz) alterReassignments(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	broker, _ := strconv.Atoi(r.Name)
	request := kadm.AlterPartitionAssignmentsReq{}
	request.Assign(r.Topic, 0, []int32{int32(broker)})
	altered, err := f.admin.AlterPartitionAssignments(ctx, request)
	if err != nil {
		return nil, err
	}
	return Nothing, altered[r.Topic][0].Err
}

// describeProducers answers with how many producers are known for each partition.
func (f *franz) describeProducers(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	described, err := f.admin.DescribeProducers(ctx, topicSet(r.Topic, r.Partitions))
	if err != nil {
		return nil, err
	}
	counts := map[int32]int{}
	for _, partition := range described[r.Topic].Partitions {
		counts[partition.Partition] = len(partition.ActiveProducers)
		if partition.Err != nil {
			return nil, partition.Err
		}
	}
	return counts, nil
}

func (f *franz) alterQuotas(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	entry := kadm.AlterClientQuotaEntry{}
	for kind, name := range r.Entity {
		entry.Entity = append(entry.Entity, kadm.ClientQuotaEntityComponent{Type: kind, Name: &name})
	}
	for key, value := range r.Limits {
		operation := kadm.AlterClientQuotaOp{Key: key, Remove: value == nil}
		if value != nil {
			operation.Value = *value
		}
		entry.Ops = append(entry.Ops, operation)
	}
	altered, err := f.admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{entry})
	if err != nil {
		return nil, err
	}
	return Nothing, altered[0].Err
}

func (f *franz) describeQuotas(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	var components []kadm.DescribeClientQuotaComponent
	for kind, name := range r.Entity {
		components = append(components, kadm.DescribeClientQuotaComponent{Type: kind, MatchName: &name})
	}
	described, err := f.admin.DescribeClientQuotas(ctx, true, components)
	limits := map[string]float64{}
	for _, quota := range described {
		for _, value := range quota.Values {
			limits[value.Key] = value.Value
		}
	}
	return limits, err
}

func (f *franz) listConfigResources(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	listed, err := f.admin.ListConfigResources(ctx)
	names := []string{}
	for _, resource := range listed.Resources {
		names = append(names, resource.Name)
	}
	return names, err
}

// updateFeatures asks, without doing it, for the level that the feature has.
func (f *franz) updateFeatures(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	update := kadm.FeatureUpdate{Feature: r.Name, MaxVersionLevel: r.Level, UpgradeType: 1}
	_, err := f.admin.UpdateFeatures(ctx, true, update)
	return Nothing, err
}

func (f *franz) endOffsetOfEpoch(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	request := kadm.OffsetForLeaderEpochRequest{}
	request.Add(r.Topic, 0, 0)
	answered, err := f.admin.OffsetForLeaderEpoch(ctx, request)
	if err != nil {
		return nil, err
	}
	answer := answered[r.Topic][0]
	return answer.EndOffset, answer.Err
}

// alterReplicaLogDirs moves partition 0 to the folder that it is in, which is nothing to do.
func (f *franz) alterReplicaLogDirs(r Request) (any, error) {
	ctx, cancel := deadline()
	defer cancel()
	described, err := f.admin.DescribeAllLogDirs(ctx, topicSet(r.Topic, 1))
	if err != nil {
		return nil, err
	}
	dirs := []string{}
	described.Each(func(dir kadm.DescribedLogDir) { dirs = append(dirs, dir.Dir) })
	slices.Sort(dirs)
	request := kadm.AlterReplicaLogDirsReq{}
	request.Add(dirs[0], topicSet(r.Topic, 1))
	altered, err := f.admin.AlterAllReplicaLogDirs(ctx, request)
	if err != nil {
		return nil, err
	}
	answers := altered.Sorted()
	if len(answers) != 1 {
		return nil, fmt.Errorf("%d answers for one partition", len(answers))
	}
	return Nothing, answers[0].Err
}
