"""kpybroker: a broker that Apache Kafka's clients, tools and nodes can talk to."""

__version__ = "0.1.0"
