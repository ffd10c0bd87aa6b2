//! The messages of PD's log that Berth writes: text, level, names of the fields in order.
//!
//! Owns: the table. Must not know: when a message is written. Berth's own messages need no row; they stand where they are written.

use super::log::{Level, Logger, Value};

/// A message with its fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its level.
    pub level: Level,
    /// Its text.
    pub text: &'static str,
    /// Names of its fields, in order.
    pub fields: &'static [&'static str],
}

impl Message {
    /// Writes the message with a value for each of its fields; [`crate::pdsay`] is the short way.
    pub fn write(&self, log: &Logger, file: &str, line: u32, values: &[Value<'_>]) {
        debug_assert_eq!(values.len(), self.fields.len(), "fields of {:?}", self.text);
        let fields: Vec<_> = self.fields.iter().copied().zip(values.iter().cloned()).collect();
        log.write(self.level, file, line, self.text, &fields);
    }
}

/// Writes a message of [`names`](crate::telemetry::names) with its values in the order of its fields:
/// `pdsay!(log, STORE_LIMIT_ADDED, id)`.
#[macro_export]
macro_rules! pdsay {
    ($log:expr, $name:ident $(, $value:expr)* $(,)?) => {{
        let log: &$crate::telemetry::log::Logger = &$log;
        let message = &$crate::telemetry::names::$name;
        if log.enabled(message.level) {
            message.write(log, file!(), line!(), &[$($crate::telemetry::log::Value::from($value)),*]);
        }
    }};
}

macro_rules! messages {
    ($($name:ident = $level:ident, $text:literal, [$($field:literal),*];)*) => {
        $(
            #[doc = concat!("`", $text, "`")]
            pub const $name: Message = Message { level: Level::$level, text: $text, fields: &[$($field),*] };
        )*

        /// Every message.
        pub const ALL: &[Message] = &[$($name),*];
    };
}

messages! {
    WELCOME = Info, "Welcome to Placement Driver (PD)", [];
    PD_CONFIG = Info, "PD config", ["enable-keyspace-group", "config"];
    LOAD_PD_AND_CLUSTER_VERSION = Info, "load pd and cluster version", ["pd-version", "cluster-version"];
    START_TO_CAMPAIGN_PD_LEADER = Info, "start to campaign PD leader", ["campaign-leader-name"];
    LEADER_ELECTED = Info, "leader election succeeded, start leader ready process", [];
    PD_LEADER_IS_READY_TO_SERVE = Info, "PD leader is ready to serve", ["leader-name", "total-cost", "cost"];
    INIT_CLUSTER_ID = Info, "init cluster id", ["cluster-id"];
    GOT_SIGNAL_TO_EXIT = Info, "got signal to exit", ["signal"];
    CLOSING_SERVER = Info, "closing server", [];
    CLOSE_SERVER = Info, "close server", [];
    CREATE_SERVER_FAILED = Fatal, "create server failed", ["error"];
    RUN_SERVER_FAILED = Fatal, "run server failed", ["error"];
    INITIALIZE_LOGGER_ERROR = Fatal, "initialize logger error", ["error"];
    TRY_TO_BOOTSTRAP_RAFT_CLUSTER = Info, "try to bootstrap raft cluster", ["cluster-id", "request"];
    BOOTSTRAP_CLUSTER_OK = Info, "bootstrap cluster ok", ["cluster-id"];
    CLUSTER_ALREADY_BOOTSTRAPPED = Warn, "cluster already bootstrapped", ["cluster-id"];
    CLUSTER_IS_NOT_BOOTSTRAPPED = Warn, "cluster is not bootstrapped", ["cost"];
    LOAD_STORES = Info, "load stores", ["count", "cost"];
    LOAD_REGIONS = Info, "load regions", ["count", "cost"];
    CLUSTER_VERSION_CHANGED = Info, "cluster version changed", ["old-cluster-version", "new-cluster-version"];
    COORDINATOR_COLLECTS = Info, "coordinator starts to collect cluster information", [];
    COORDINATOR_PREPARED = Info, "coordinator has finished cluster information preparation", [];
    COORDINATOR_RUNS = Info, "coordinator starts to run schedulers", [];
    COORDINATOR_IS_STOPPING = Info, "coordinator is stopping", [];
    COORDINATOR_HAS_BEEN_STOPPED = Info, "coordinator has been stopped", [];
    PATROL_INTERVAL = Info, "checkers starts patrol regions with new interval", ["interval"];
    PUT_STORE_OK = Info, "put store ok", ["store"];
    STORE_HAS_BEEN_OFFLINE = Warn, "store has been offline", ["store-id", "region-count", "store-address", "physically-destroyed"];
    STORE_HAS_BEEN_UP = Warn, "store has been up", ["store-id", "store-address"];
    STORE_HAS_BEEN_TOMBSTONE = Warn, "store has been Tombstone", ["store-id", "store-address", "state", "physically-destroyed"];
    STORE_HAS_CHANGED_TO_SERVING = Info, "store has changed to serving", ["store-id", "store-address"];
    STORE_LIMIT_ADDED = Info, "store limit added", ["store-id"];
    STORE_LIMIT_REMOVED = Info, "store limit removed", ["store-id"];
    STORE_LIMIT_CHANGED = Info, "store limit changed", ["store-id", "type", "rate-per-min"];
    ALL_STORE_LIMIT_CHANGED = Info, "all store limit changed", ["type", "rate-per-min"];
    DELETE_STORE_SUCCEEDED = Info, "delete store succeeded", ["store"];
    SKIP_REMOVING_TOMBSTONE = Warn, "skip removing tombstone", ["store"];
    BURY_STORE_FAILED = Error, "bury store failed", ["store", "error"];
    STORE_DOES_NOT_HAVE_ENOUGH_DISK_SPACE = Warn, "store does not have enough disk space", ["store-id", "capacity", "available"];
    LEADER_CHANGED = Info, "leader changed", ["region-id", "from", "to"];
    REGION_CONFVER_CHANGED = Info, "region ConfVer changed", ["region-id", "detail", "old-confver", "new-confver"];
    REGION_VERSION_CHANGED = Info, "region Version changed", ["region-id", "detail", "old-version", "new-version"];
    REGION_HAS_DOWN_PEER = Warn, "region has down peer on connected store", ["region-id", "down-peer", "down-seconds", "store-id"];
    ALLOC_IDS_FOR_REGION_SPLIT = Info, "alloc ids for region split", ["region-id", "peer-ids"];
    REGION_SPLIT = Info, "region split, generate new region", ["region-id", "region-meta"];
    REGION_BATCH_SPLIT = Info, "region batch split, generate new regions", ["region-id", "origin", "total"];
    ADD_OPERATOR = Info, "add operator", ["region-id", "operator", "additional-info"];
    CAN_NOT_PAUSE_CHECKER = Error, "can not pause checker", ["checker-name", "error"];
    SEND_SCHEDULE_COMMAND = Info, "send schedule command", ["region-id", "step", "source"];
    OPERATOR_FINISH = Info, "operator finish", ["region-id", "takes", "operator", "additional-info"];
    OPERATOR_TIMEOUT = Info, "operator timeout", ["region-id", "takes", "operator", "additional-info"];
    OPERATOR_CANCELED = Info, "operator canceled", ["region-id", "takes", "operator", "additional-info"];
    OPERATOR_REMOVED = Info, "operator removed", ["region-id", "takes", "operator"];
    REPLACE_OLD_OPERATOR = Info, "replace old operator", ["region-id", "takes", "operator", "additional-info"];
    OPERATOR_EXPIRED = Info, "operator expired", ["region-id", "lives", "operator"];
    OPERATOR_IS_STALE = Info, "operator is stale", ["region-id", "diff", "latest-epoch"];
    HEARTBEAT_STREAMS_CLOSED = Info, "heartbeat stream is closed, stop running", [];
    SCHEDULE_CONFIG_IS_UPDATED = Info, "schedule config is updated", ["new", "old"];
    REPLICATION_CONFIG_IS_UPDATED = Info, "replication config is updated", ["new", "old"];
    PD_SERVER_CONFIG_IS_UPDATED = Info, "PD server config is updated", ["new", "old"];
    REPLICATION_MODE_CONFIG_IS_UPDATED = Info, "replication mode config is updated", ["new", "old"];
    LABEL_PROPERTY_CONFIG_IS_UPDATED = Info, "label property config is updated", ["config"];
    KEYSPACE_CONFIG_IS_UPDATED = Info, "keyspace config is updated", ["new", "old"];
    MICROSERVICE_CONFIG_IS_UPDATED = Info, "microservice config is updated", ["new", "old"];
    LOG_LEVEL_CHANGED = Warn, "log level changed", ["level"];
    AUDIT_CONFIG_IS_UPDATED = Info, "audit config is updated", ["new", "old"];
    PREPARE_CHECKER_FINISHED = Info, "not loaded from storage region number is satisfied, finish prepare checker", ["not-from-storage-region", "total-region"];
    AUDIT_LOG = Info, "audit log", ["service-info"];
    RESET_TS = Info, "reset-ts", ["new-ts", "ignore-smaller", "skip-upper-bound-check"];
    UPDATED_GC_SAFE_POINT = Info, "updated gc safe point", ["safe-point"];
    UPDATE_SERVICE_GC_SAFE_POINT = Info, "update service GC safe point", ["service-id", "expire-at", "safepoint"];
    EXIT_PD_LEADER = Info, "exit PD leader", [];
    CREATE_SCHEDULER = Info, "create scheduler", ["scheduler-name", "scheduler-args"];
    ADD_SCHEDULER = Info, "add scheduler successfully", ["scheduler-name", "scheduler-args"];
    PERSIST_SCHEDULER = Info, "persist scheduler config successfully", ["scheduler-name", "scheduler-args"];
    CAN_NOT_ADD_SCHEDULER = Error, "can not add scheduler", ["scheduler-name", "scheduler-args", "error"];
    REMOVE_SCHEDULER = Info, "remove scheduler successfully", ["scheduler-name"];
    CAN_NOT_REMOVE_SCHEDULER = Error, "can not remove scheduler", ["scheduler-name", "error"];
    PAUSE_SCHEDULER = Info, "pause scheduler successfully", ["scheduler-name", "pause-seconds"];
    RESUME_SCHEDULER = Info, "resume scheduler successfully", ["scheduler-name"];
    CAN_NOT_PAUSE_SCHEDULER = Error, "can not pause scheduler", ["scheduler-name", "error"];
    UPDATE_SCHEDULER = Info, "update scheduler", ["scheduler-name", "store-id"];
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::model::testing::shared_file;

    /// Field names of a recorded line.
    fn fields_of(sample: &str) -> Vec<String> {
        let mut rest = sample.splitn(4, "] [").nth(3).unwrap_or("");
        rest = rest.strip_prefix('"').map_or(rest, |r| r.split_once("\"]").map_or("", |(_, r)| r));
        let pattern = regex::Regex::new(r#" \[("[^"]*"|[^\]="]+)=("(?:[^"\\]|\\.)*"|[^\]]*)\]"#).unwrap();
        pattern.captures_iter(rest).map(|c| c[1].trim_matches('"').to_owned()).collect()
    }

    #[test]
    fn a_message_is_written_with_its_fields_in_order() {
        use std::sync::Arc;

        use crate::{
            model::{StoreId, Wall},
            telemetry::log::{Sink, Style},
        };
        let buffer = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let log = Logger::new(Sink::Buffer(buffer.clone()), Level::Info, Style::default(), 0, || Wall(0));
        pdsay!(log, STORE_HAS_CHANGED_TO_SERVING, StoreId(1), "tikv-1:20160");
        let line = String::from_utf8(buffer.lock().clone()).unwrap();
        let rest = line.split_once("[names.rs:").unwrap().1.split_once("] ").unwrap().1;
        assert_eq!(rest, "[\"store has changed to serving\"] [store-id=1] [store-address=tikv-1:20160]\n");
    }

    #[test]
    fn every_message_is_one_of_the_recorded_ones() {
        let Some(table) = shared_file("compat/logs.tsv") else { return };
        let Some(story) = shared_file("compat/scale-in-story.log") else { return };
        for message in ALL {
            let row = table.lines().map(|l| l.split('\t').collect::<Vec<_>>()).find(|r| r[1] == message.text);
            let in_story = story.lines().find(|l| l.contains(&format!("[\"{}\"]", message.text)));
            let (level, fields) = match (row, in_story) {
                (_, Some(line)) => (line.split("] [").nth(1).unwrap().to_owned(), fields_of(line)),
                (Some(row), None) if !row[6].is_empty() && row[6].ends_with(']') => {
                    (row[2].to_owned(), fields_of(row[6]))
                }
                (Some(row), None) => {
                    (row[2].to_owned(), row[3].split(',').filter(|f| !f.is_empty()).map(str::to_owned).collect())
                }
                (None, None) => panic!("{:?} is not recorded", message.text),
            };
            assert_eq!((message.level.name(), message.text), (level.as_str(), message.text));
            assert_eq!(message.fields, fields, "{:?}", message.text);
        }
    }
}
