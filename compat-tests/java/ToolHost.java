// Licensed under the Apache License, Version 2.0: http://www.apache.org/licenses/LICENSE-2.0

import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.lang.reflect.InvocationTargetException;
import java.net.InetAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import javax.management.AttributeNotFoundException;
import javax.management.InstanceNotFoundException;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import org.apache.kafka.common.utils.Exit;
import py4j.GatewayServer;

/**
 * Runs the main classes of Apache Kafka's command-line tools inside one JVM, several at a time.
 *
 * A tool sees what it would see in a process of its own: its arguments, its stdin, stdout and stderr (files named by the
 * caller), an exit that ends it and not the others, and shutdown hooks, run when it is asked to stop, as Ctrl-C would.
 * Every thread that a tool starts belongs to its run by inheritance.
 *
 * Commands come on stdin, one a line, fields separated by tabs, arguments URL-encoded; each is answered by one line,
 * "id TAB answer", when it is done:
 *   id run  main-class stdin-file|- stdout-file stderr-file argument...   answered "ended CODE" when the tool has ended
 *   id stop run-id                                                        answered "ok" when the hooks have run
 *   id lines total millis run-id...      answered "reached N" or, after that time, "only N" lines on these stdouts
 *   id assigned each millis client-id... answered "ok" once each of these consumers has that many partitions
 *   id gateway token                     answered "port N": a Py4J gateway, through which Python calls Kafka's clients
 */
public final class ToolHost {
    private static final InheritableThreadLocal<Run> CURRENT = new InheritableThreadLocal<>();
    private static final Map<String, Run> RUNS = new ConcurrentHashMap<>();
    private static final Object LINES_CHANGED = new Object();
    private static final PrintStream ANSWERS = System.out;
    private static final PrintStream OWN_ERR = System.err;

    /** Ends a tool's thread where the tool wanted to end the JVM. */
    private static final class Ended extends Error {
        Ended() {
            super("the tool has ended", null, false, false);
        }
    }

    /** One stdout or stderr: a file, and how many lines it has. */
    private static final class Output extends OutputStream {
        private OutputStream file;
        private volatile long lines;

        Output(String name) throws IOException {
            file = new BufferedOutputStream(Files.newOutputStream(Path.of(name)), 1 << 16);
        }

        @Override
        public synchronized void write(int value) throws IOException {
            write(new byte[] {(byte) value}, 0, 1);
        }

        @Override
        public synchronized void write(byte[] data, int start, int length) throws IOException {
            file.write(data, start, length);
            long more = 0;
            for (int i = start; i < start + length; i++) {
                if (data[i] == '\n') {
                    more++;
                }
            }
            if (more > 0) {
                lines += more;
                synchronized (LINES_CHANGED) {
                    LINES_CHANGED.notifyAll();
                }
            }
        }

        @Override
        public synchronized void close() throws IOException {
            file.close();
            file = OutputStream.nullOutputStream();  // runs are kept for their line counts, not with their buffers
        }
    }

    /** One run of one tool. */
    private static final class Run {
        final InputStream in;
        final Output out;
        final Output err;
        final List<Runnable> hooks = new ArrayList<>();
        private Integer code;
        private boolean stopping;

        Run(String in, String out, String err) throws IOException {
            this.in = in.equals("-") ? InputStream.nullInputStream() : Files.newInputStream(Path.of(in));
            this.out = new Output(out);
            this.err = new Output(err);
        }

        synchronized void ended(int code) {
            if (this.code == null) {  // what a tool says first is meant; what it says while unwinding is not
                this.code = code;
            }
        }

        synchronized int code() {
            return code == null ? 0 : code;
        }

        /** The hooks, each once: a second caller gets none. */
        synchronized List<Runnable> takeHooks() {
            List<Runnable> taken = new ArrayList<>(hooks);
            hooks.clear();
            return taken;
        }

        /** A tool may be asked to stop before it has come to its first hook; then that is run as soon as it is there. */
        synchronized void addHook(Runnable hook) {
            if (stopping) {
                new Thread(hook).start();
            } else {
                hooks.add(hook);
            }
        }

        synchronized List<Runnable> stop() {
            stopping = true;
            return takeHooks();
        }
    }

    /** A stream of the JVM that is, for each thread, the stream of its run. A tool's flush is left to the end. */
    private static PrintStream perRun(boolean err) {
        PrintStream otherwise = OWN_ERR;
        return new PrintStream(new OutputStream() {
            private OutputStream target() {
                Run run = CURRENT.get();
                return run == null ? otherwise : err ? run.err : run.out;
            }

            @Override
            public void write(int value) throws IOException {
                target().write(value);
            }

            @Override
            public void write(byte[] data, int start, int length) throws IOException {
                target().write(data, start, length);
            }
        });
    }

    private static InputStream inputPerRun() {
        return new InputStream() {
            @Override
            public int read() throws IOException {
                return CURRENT.get().in.read();
            }

            @Override
            public int read(byte[] data, int start, int length) throws IOException {
                return CURRENT.get().in.read(data, start, length);
            }
        };
    }

    public static void main(String[] args) throws Exception {
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.setIn(inputPerRun());
        System.setOut(perRun(false));
        System.setErr(perRun(true));
        Exit.setExitProcedure((code, message) -> exit(code));
        Exit.setHaltProcedure((code, message) -> exit(code));
        Exit.setShutdownHookAdder((name, hook) -> CURRENT.get().addHook(hook));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] fields = line.split("\t", -1);
            if (fields[1].equals("run")) {  // known before the next command is read
                RUNS.put(fields[0], new Run(fields[3], fields[4], fields[5]));
            }
            new Thread(() -> answer(fields), "command-" + fields[0]).start();
        }
        Runtime.getRuntime().halt(0);  // the caller has gone: nothing here is worth a clean end
    }

    private static void exit(int code) {
        CURRENT.get().ended(code);
        throw new Ended();
    }

    private static void answer(String[] fields) {
        String answer;
        try {
            answer = switch (fields[1]) {
                case "run" -> run(fields);
                case "stop" -> stop(fields[2]);
                case "lines" -> lines(Long.parseLong(fields[2]), Long.parseLong(fields[3]), rest(fields, 4));
                case "assigned" -> assigned(Integer.parseInt(fields[2]), Long.parseLong(fields[3]), rest(fields, 4));
                case "gateway" -> "port " + gateway(fields[2]);
                default -> "failed no such command";
            };
        } catch (Throwable error) {
            error.printStackTrace(OWN_ERR);
            answer = "failed " + error.toString().replaceAll("\\s+", " ");
        }
        synchronized (ANSWERS) {
            ANSWERS.println(fields[0] + "\t" + answer);
            ANSWERS.flush();
        }
    }

    private static List<String> rest(String[] fields, int from) {
        return Arrays.asList(fields).subList(from, fields.length);
    }

    private static String run(String[] fields) throws Exception {
        Run run = RUNS.get(fields[0]);
        CURRENT.set(run);
        String[] arguments = rest(fields, 6).stream()
            .map(each -> URLDecoder.decode(each, StandardCharsets.UTF_8)).toArray(String[]::new);
        try {
            Class.forName(fields[2]).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException thrown) {
            if (!(thrown.getCause() instanceof Ended)) {
                thrown.getCause().printStackTrace(System.err);
                run.ended(1);
            }
        } finally {
            for (Runnable hook : run.takeHooks()) {  // a JVM that ends runs them too: ConsoleProducer flushes there
                hook.run();
            }
            System.out.flush();
            System.err.flush();
            CURRENT.remove();
            run.in.close();
            run.out.close();
            run.err.close();
        }
        return "ended " + run.code();
    }

    private static int gateway(String token) {
        GatewayServer server = new GatewayServer.GatewayServerBuilder()
            .javaAddress(InetAddress.getLoopbackAddress()).javaPort(0).authToken(token).build();
        server.start(true);
        return server.getListeningPort();
    }

    private static String stop(String id) {
        Run run = RUNS.get(id);
        CURRENT.set(run);
        for (Runnable hook : run.stop()) {
            hook.run();
        }
        return "ok";
    }

    private static String lines(long total, long millis, List<String> ids) throws InterruptedException {
        long end = System.nanoTime() + millis * 1_000_000;
        synchronized (LINES_CHANGED) {
            while (true) {
                long sum = ids.stream().mapToLong(id -> RUNS.get(id).out.lines).sum();
                long left = (end - System.nanoTime()) / 1_000_000;
                if (sum >= total) {
                    return "reached " + sum;
                }
                if (left <= 0) {
                    return "only " + sum;
                }
                LINES_CHANGED.wait(left);
            }
        }
    }

    /** A consumer tells its number of partitions by JMX alone; there is nothing to wait on, so it is asked again. */
    private static String assigned(int each, long millis, List<String> clients) throws Exception {
        long end = System.nanoTime() + millis * 1_000_000;
        while (true) {
            List<Integer> counts = new ArrayList<>();
            for (String client : clients) {
                counts.add(partitionsOf(client));
            }
            if (counts.stream().allMatch(count -> count == each)) {
                return "ok";
            }
            if (System.nanoTime() > end) {
                return "only " + counts;
            }
            Thread.sleep(20);
        }
    }

    private static int partitionsOf(String client) throws Exception {
        MBeanServer beans = ManagementFactory.getPlatformMBeanServer();
        try {
            ObjectName name = new ObjectName("kafka.consumer:type=consumer-coordinator-metrics,client-id=" + client);
            return ((Number) beans.getAttribute(name, "assigned-partitions")).intValue();
        } catch (InstanceNotFoundException | AttributeNotFoundException notYet) {
            return -1;
        }
    }
}
