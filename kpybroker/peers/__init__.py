"""Our client side: connections to other nodes, ours or Apache Kafka's."""
