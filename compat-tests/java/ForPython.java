// Licensed under the Apache License, Version 2.0: http://www.apache.org/licenses/LICENSE-2.0

import java.io.ByteArrayOutputStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;

/** What Python cannot call by itself, and many records in one call, where a call for each would cost more than they. */
public final class ForPython {
    private ForPython() {
    }

    /** Sends values, each ended by a line feed, to partitions in turn, and waits for all; the offsets in their order. */
    public static List<Long> send(Producer<byte[], byte[]> producer, String topic, int partitions, byte[] values)
            throws InterruptedException, ExecutionException {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        int start = 0;
        for (int end = 0; end < values.length; end++) {
            if (values[end] == '\n') {
                byte[] value = Arrays.copyOfRange(values, start, end);
                sent.add(producer.send(new ProducerRecord<>(topic, sent.size() % partitions, null, value)));
                start = end + 1;
            }
        }
        producer.flush();
        List<Long> offsets = new ArrayList<>();
        for (Future<RecordMetadata> each : sent) {
            offsets.add(each.get().offset());
        }
        return offsets;
    }

    /** Numbers as Long, which a Map of Java's must have: those that come from Python are Integer if they fit. */
    public static <K> Map<K, Long> longs(Map<K, Number> numbers) {
        Map<K, Long> longs = new HashMap<>();
        numbers.forEach((key, number) -> longs.put(key, number.longValue()));
        return longs;
    }

    /** RecordsToDelete.beforeOffset: Py4J finds the getter of the same name instead. */
    public static RecordsToDelete recordsBefore(long offset) {
        return RecordsToDelete.beforeOffset(offset);
    }

    /** CloseOptions that leave the membership behind: a getter has that name too, and it is chance which one Py4J finds. */
    public static CloseOptions remainInGroup() {
        return CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.REMAIN_IN_GROUP);
    }

    /** One poll; the values that came, each ended by a line feed. */
    public static byte[] poll(Consumer<byte[], byte[]> consumer, long millis) {
        ByteArrayOutputStream values = new ByteArrayOutputStream();
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(millis))) {
            values.writeBytes(record.value());
            values.write('\n');
        }
        return values.toByteArray();
    }
}
