"""One request at a time, at every version of its API, and the answers that Apache Kafka gives to them."""
