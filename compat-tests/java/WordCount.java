// Licensed under the Apache License, Version 2.0: http://www.apache.org/licenses/LICENSE-2.0

import static org.apache.kafka.streams.CloseOptions.GroupMembershipOperation.LEAVE_GROUP;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Exit;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;

/**
 * Counts the words of a topic's values into another topic: Kafka Streams with a repartition topic, a state store and its
 * changelog, at least once or, as a sixth argument may say, exactly once.
 *
 * Arguments: bootstrap servers, application id, state directory, topic to read, topic to write, processing guarantee,
 * group protocol ("classic" unless it is told). Writes each state that it comes to, and runs until it is stopped.
 */
public final class WordCount {
    private WordCount() {
    }

    public static void main(String[] args) throws InterruptedException {
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(args[3], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
            .flatMapValues(value -> Arrays.asList(words(value)))
            .filter((key, word) -> !word.isEmpty())
            .groupBy((key, word) -> word, Grouped.with("words", Serdes.String(), Serdes.String()))
            .count(Materialized.as("counts"))
            .toStream()
            .to(args[4], Produced.with(Serdes.String(), Serdes.Long()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings(args));
        CountDownLatch stopped = new CountDownLatch(1);
        streams.setStateListener((now, before) -> System.out.println(now));
        Exit.addShutdownHook("word-count", () -> {
            streams.close(CloseOptions.timeout(Duration.ofSeconds(60)).withGroupMembershipOperation(LEAVE_GROUP));
            stopped.countDown();
        });
        streams.start();
        stopped.await();
    }

    private static String[] words(byte[] line) {
        return new String(line, StandardCharsets.ISO_8859_1).toLowerCase(Locale.ROOT).split("[^a-z0-9_]+");
    }

    private static Properties settings(String[] args) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        settings.put(StreamsConfig.CLIENT_ID_CONFIG, "java-streams");
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[2]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, args.length > 5 ? args[5] : StreamsConfig.AT_LEAST_ONCE);
        settings.put(StreamsConfig.GROUP_PROTOCOL_CONFIG, args.length > 6 ? args[6] : "classic");
        if (args.length <= 6) {
            settings.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
        }
        settings.put(StreamsConfig.producerPrefix("transaction.timeout.ms"), 10000);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 500);
        return settings;
    }
}
