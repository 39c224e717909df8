"""What the compatibility tests are built on: brokers to test, Apache Kafka's jars and tools, a real text, clients."""
