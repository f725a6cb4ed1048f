//! Ingresses: backends were a name and a port, and paths did not have to say how they match.

use serde_json::{Value, json};

use super::{rename, take};

pub(super) fn from_beta(object: &mut Value) {
    let spec = &mut object["spec"];
    if let Some(backend) = take(spec, "backend") {
        spec["defaultBackend"] = backend_from_beta(backend);
    }
    each_path(spec, |path| {
        if path["pathType"].is_null() {
            path["pathType"] = "ImplementationSpecific".into();
        }
        path["backend"] = backend_from_beta(path["backend"].take());
    });
}

pub(super) fn to_beta(object: &mut Value) {
    let spec = &mut object["spec"];
    if let Some(backend) = take(spec, "defaultBackend") {
        spec["backend"] = backend_to_beta(backend);
    }
    each_path(spec, |path| path["backend"] = backend_to_beta(path["backend"].take()));
}

fn each_path(spec: &mut Value, change: impl Fn(&mut Value)) {
    let rules = spec.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten();
    for rule in rules {
        let paths = rule.pointer_mut("/http/paths").and_then(Value::as_array_mut);
        paths.into_iter().flatten().for_each(&change);
    }
}

fn backend_from_beta(mut backend: Value) -> Value {
    let (name, port) = (take(&mut backend, "serviceName"), take(&mut backend, "servicePort"));
    let Some(name) = name else { return backend };
    let port = match port {
        Some(Value::String(name)) => json!({"name": name}),
        Some(number) => json!({"number": number}),
        None => json!({}),
    };
    backend["service"] = json!({"name": name, "port": port});
    backend
}

fn backend_to_beta(mut backend: Value) -> Value {
    if let Some(mut service) = take(&mut backend, "service") {
        rename(&mut service, "name", "serviceName");
        let mut port = take(&mut service, "port").unwrap_or_default();
        let port = take(&mut port, "name").or_else(|| take(&mut port, "number"));
        backend["serviceName"] = service["serviceName"].take();
        if let Some(port) = port {
            backend["servicePort"] = port;
        }
    }
    backend
}
