//! A stock client of Apache Kafka, driven by the compatibility tests: `kpybroker-compat rskafka HOST:PORT`.
//!
//! One request a line on stdin, one answer a line on stdout, both JSON; harness/driver.py has the words of it.
//! rskafka is written in Rust alone; it has no groups, no idempotence and a small administration.

use std::collections::BTreeMap;
use std::error::Error;

use chrono::Utc;
use rskafka::client::error::Error as ClientError;
use rskafka::client::partition::{Compression, OffsetAt, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record as ClientRecord;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, BufReader};

const LIMIT_MS: i32 = 60_000;

#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    partition: i32,
    #[serde(default)]
    offset: i64,
    key: String,
    value: String,
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Request {
    #[serde(rename = "do")]
    operation: String,
    topic: String,
    codec: String,
    partitions: i32,
    replicas: i16,
    count: usize,
    records: Vec<Record>,
    offsets: BTreeMap<i32, i64>,
    spec: String,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            operation: String::new(),
            topic: String::new(),
            codec: String::new(),
            partitions: 0,
            replicas: 1,
            count: 0,
            records: vec![],
            offsets: BTreeMap::new(),
            spec: String::new(),
        }
    }
}

type Answer = Result<Value, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = std::env::args().nth(2).expect("HOST:PORT");
    let client = ClientBuilder::new(vec![address]).build().await.expect("a broker");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.expect("stdin") {
        let request: Request = serde_json::from_str(&line).expect("a request");
        let answer = match carry_out(&client, request).await {
            Ok(result) => json!({ "ok": result }),
            Err(error) => json!({ "error": { "code": code_of(error.as_ref()), "message": error.to_string() } }),
        };
        println!("{answer}");
    }
}

async fn carry_out(client: &Client, request: Request) -> Answer {
    match request.operation.as_str() {
        "hello" => Ok(hello()),
        "produce" => produce(client, request).await,
        "read" => read(client, request).await,
        "create_topic" => {
            let controller = client.controller_client()?;
            controller.create_topic(request.topic, request.partitions, request.replicas, LIMIT_MS).await?;
            Ok(json!({}))
        }
        "delete_topic" => {
            client.controller_client()?.delete_topic(request.topic, LIMIT_MS).await?;
            Ok(json!({}))
        }
        "list_topics" => {
            let topics = client.list_topics().await?;
            Ok(json!(topics.into_iter().map(|topic| topic.name).collect::<Vec<_>>()))
        }
        "describe_topic" => describe_topic(client, request).await,
        "list_offsets" => list_offsets(client, request).await,
        "delete_records" => delete_records(client, request).await,
        other => Err(format!("no such request: {other}").into()),
    }
}

fn hello() -> Value {
    let lock = include_str!("../Cargo.lock");
    let after = lock.split("name = \"rskafka\"\nversion = \"").nth(1).expect("rskafka in Cargo.lock");
    let version = after.split('"').next();
    json!({ "version": version, "codecs": ["none", "gzip", "snappy", "lz4", "zstd"] })
}

/// Kafka's error code, which rskafka keeps as the name of an enum; None for an error of another kind.
fn code_of(error: &(dyn Error + 'static)) -> Option<i16> {
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::ServerError { protocol_error, .. }) => {
            (-1..200).find(|code| rskafka::client::error::ProtocolError::new(*code) == Some(*protocol_error))
        }
        _ => None,
    }
}

async fn produce(client: &Client, request: Request) -> Answer {
    let compression = match request.codec.as_str() {
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::NoCompression,
    };
    let mut batches: BTreeMap<i32, Vec<ClientRecord>> = BTreeMap::new();
    for (number, record) in request.records.into_iter().enumerate() {
        let partition = number as i32 % request.partitions;
        batches.entry(partition).or_default().push(ClientRecord {
            key: Some(record.key.into_bytes()),
            value: Some(record.value.into_bytes()),
            headers: record.headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
            timestamp: Utc::now(),
        });
    }
    for (partition, records) in batches {
        let to = client.partition_client(&request.topic, partition, UnknownTopicHandling::Retry).await?;
        to.produce(records, compression).await?;
    }
    Ok(json!({}))
}

fn text(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

async fn read(client: &Client, request: Request) -> Answer {
    let mut records: Vec<Record> = vec![];
    for partition in 0..request.partitions {
        let from = client.partition_client(&request.topic, partition, UnknownTopicHandling::Retry).await?;
        let end = from.get_offset(OffsetAt::Latest).await?;
        let mut offset = from.get_offset(OffsetAt::Earliest).await?;
        while offset < end {
            let (found, _) = from.fetch_records(offset, 1..1_000_000, 1_000).await?;
            for each in found {
                offset = each.offset + 1;
                let headers = each.record.headers.into_iter().map(|(name, value)| (name, text(Some(value))));
                records.push(Record {
                    partition,
                    offset: each.offset,
                    key: text(each.record.key),
                    value: text(each.record.value),
                    headers: headers.collect(),
                });
            }
        }
    }
    if records.len() < request.count {
        return Err(format!("{} records, not {}", records.len(), request.count).into());
    }
    Ok(json!(records))
}

async fn describe_topic(client: &Client, request: Request) -> Answer {
    let topics = client.list_topics().await?;
    let topic = topics.into_iter().find(|topic| topic.name == request.topic).ok_or("no such topic")?;
    Ok(json!({ "partitions": topic.partitions.len() }))
}

async fn list_offsets(client: &Client, request: Request) -> Answer {
    let mut offsets = BTreeMap::new();
    for partition in 0..request.partitions {
        let asked = client.partition_client(&request.topic, partition, UnknownTopicHandling::Error).await?;
        let at = if request.spec == "earliest" { OffsetAt::Earliest } else { OffsetAt::Latest };
        offsets.insert(partition, asked.get_offset(at).await?);
    }
    Ok(json!(offsets))
}

async fn delete_records(client: &Client, request: Request) -> Answer {
    for (partition, offset) in request.offsets {
        let asked = client.partition_client(&request.topic, partition, UnknownTopicHandling::Error).await?;
        asked.delete_records(offset, LIMIT_MS).await?;
    }
    Ok(json!({}))
}
