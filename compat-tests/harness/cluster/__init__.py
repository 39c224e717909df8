"""Clusters of real processes: nodes of Apache Kafka, of kpybroker, or of both, which are killed, frozen and cut off."""
