//! `grpc.health.v1.Health/Check`.

use std::sync::Arc;
use std::time::Duration;

use grpc::Connection;
use grpc::proto::{self, Message};
use serde_json::Value;

use crate::field::text;
use crate::handler::{Asked, Outcome, connect, port};

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Asks a container's health service.
pub(crate) fn ask(handler: &Value, of: Asked<'_>, longest: Duration) -> Outcome {
    let Some(port) = port(&handler["port"], of.spec) else {
        return Outcome::Error(format!("no port {}", handler["port"]));
    };
    match check(of.address, port, text(handler, &["service"]), longest) {
        Ok(SERVING) => Outcome::Success(String::new()),
        Ok(other) => Outcome::Failure(format!(
            "service unhealthy (responded with {:?})",
            match other {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                _ => "SERVICE_UNKNOWN",
            }
        )),
        Err(why) => Outcome::Failure(why),
    }
}

fn check(host: &str, port: u16, service: &str, longest: Duration) -> Result<u64, String> {
    let stream = connect(host, port, longest)
        .map_err(|why| format!("timeout: failed to connect service \"{host}:{port}\": {why}"))?;
    let connection = Arc::new(Connection::client().map_err(|error| error.to_string())?);
    let ours = connection.clone();
    let mut wire = stream.try_clone().map_err(|error| error.to_string())?;
    let work = move || {
        ours.run(&mut wire, &|_| false, &drop);
    };
    let thread = std::thread::Builder::new().name("grpc".to_owned()).spawn(work);
    thread.map_err(|error| error.to_string())?;
    // Whoever waits for an answer hears that the other side has gone.
    let stopper = stream.try_clone().map_err(|error| error.to_string())?;
    let (done, over) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::Builder::new().name("grpc".to_owned()).spawn(move || {
        if over.recv_timeout(longest).is_err() {
            let _ = stopper.shutdown(std::net::Shutdown::Both);
        }
    });
    guard.map_err(|error| error.to_string())?;
    let answer = connection.ask("/grpc.health.v1.Health/Check", &Message::new().text(1, service));
    let _ = done.send(());
    connection.close();
    let _ = stream.shutdown(std::net::Shutdown::Both);
    let answer = answer.map_err(|status| format!("service unhealthy: {status}"))?;
    let mut found = 0;
    for field in proto::fields(&answer) {
        let (number, value) = field.map_err(|status| status.to_string())?;
        if number == 1 {
            found = value.number();
        }
    }
    Ok(found)
}
