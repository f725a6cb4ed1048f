//! Limits, health, devices and restarts of a container, as options.

use super::{Creation, owned};
use crate::error::{Error, Result};
use crate::node::{Map, Node};

impl Creation {
    pub(super) fn limits(&mut self, node: &Node) -> Result<()> {
        let deploy =
            |keys: [&str; 2]| node.path(&["deploy", "resources"])?.get(keys[0])?.word_of(keys[1]);
        let limits = [
            ("cpus", "--cpus", ["limits", "cpus"]),
            ("mem_limit", "--memory", ["limits", "memory"]),
            ("pids_limit", "--pids-limit", ["limits", "pids"]),
            ("mem_reservation", "--memory-reservation", ["reservations", "memory"]),
        ];
        for (key, option, keys) in limits {
            if let Some(word) = deploy(keys)
                && node.get(key).is_none()
            {
                self.option(option, word);
            }
        }
        for (name, limit) in
            node.get("ulimits").and_then(Node::entries).into_iter().flat_map(Map::iter)
        {
            match (limit.word(), limit.word_of("soft"), limit.word_of("hard")) {
                (Some(both), ..) => self.option("--ulimit", &format!("{name}={both}")),
                (_, Some(soft), Some(hard)) => {
                    self.option("--ulimit", &format!("{name}={soft}:{hard}"));
                }
                _ => {
                    return Err(Error::at(
                        &limit.place,
                        format!("ulimits.{name} needs both soft and hard"),
                    ));
                }
            }
        }
        if let Some(grace) = node.word_of("stop_grace_period") {
            let ns = crate::scalar::nanoseconds(grace).unwrap_or_default();
            self.option("--stop-timeout", &ns.div_euclid(1_000_000_000).to_string());
        }
        if let Some(logging) = node.get("logging") {
            if let Some(driver) = logging.word_of("driver") {
                self.option("--log-driver", driver);
            }
            for (name, value) in logging.pairs_of("options") {
                self.option("--log-opt", &format!("{name}={}", value.unwrap_or_default()));
            }
        }
        self.blkio(node);
        Ok(())
    }

    fn blkio(&mut self, node: &Node) {
        let Some(blkio) = node.get("blkio_config") else { return };
        if let Some(weight) = blkio.word_of("weight") {
            self.option("--blkio-weight", weight);
        }
        let all = [
            ("weight_device", "weight", "--blkio-weight-device"),
            ("device_read_bps", "rate", "--device-read-bps"),
            ("device_read_iops", "rate", "--device-read-iops"),
            ("device_write_bps", "rate", "--device-write-bps"),
            ("device_write_iops", "rate", "--device-write-iops"),
        ];
        for (key, value, option) in all {
            for item in blkio.get(key).map(Node::items).unwrap_or_default() {
                let word = |key: &str| item.word_of(key).unwrap_or_default();
                self.option(option, &format!("{}:{}", word("path"), word(value)));
            }
        }
    }

    pub(super) fn health(&mut self, node: &Node) {
        let Some(health) = node.get("healthcheck") else { return };
        let test = owned(health.words_of("test"));
        if health.is("disable") || test.first().is_some_and(|word| word == "NONE") {
            self.options.push("--no-healthcheck".to_owned());
            return;
        }
        let times = [
            ("interval", "--health-interval"),
            ("timeout", "--health-timeout"),
            ("start_period", "--health-start-period"),
            ("start_interval", "--health-start-interval"),
            ("retries", "--health-retries"),
        ];
        for (key, option) in times {
            if let Some(word) = health.word_of(key) {
                self.option(option, word);
            }
        }
        if !test.is_empty() {
            // Only the shell has an option; the words take its place.
            self.option("--health-cmd", test.last().map_or("", String::as_str));
            self.health_test = Some(test);
        }
    }

    pub(super) fn devices(&mut self, node: &Node) {
        for device in node.get("devices").map(Node::items).unwrap_or_default() {
            let word = |key: &str| device.word_of(key);
            let source = word("source").unwrap_or_default();
            let target = word("target").unwrap_or(source);
            let permissions = word("permissions").unwrap_or("rwm");
            self.option("--device", &format!("{source}:{target}:{permissions}"));
        }
    }

    pub(super) fn restart(&mut self, node: &Node) {
        if let Some(policy) = node.word_of("restart") {
            self.option("--restart", policy);
            return;
        }
        let Some(policy) = node.path(&["deploy", "restart_policy"]) else { return };
        let attempts = policy.word_of("max_attempts");
        let word = match policy.word_of("condition") {
            Some("none") => "no".to_owned(),
            Some("on-failure") => match attempts {
                Some(attempts) => format!("on-failure:{attempts}"),
                None => "on-failure".to_owned(),
            },
            Some("unless-stopped") => "unless-stopped".to_owned(),
            _ => "always".to_owned(),
        };
        self.option("--restart", &word);
    }
}
