//! `--secret id=…[,src=FILE|,env=VARIABLE]`

use std::collections::BTreeMap;

use engine::{Error, Kind, Result};

/// Of a secret, in bytes; BuildKit's limit.
const SECRET_BYTES_MAX: usize = 500 << 10;

/// The values of secrets, by id.
pub(super) type Secrets = BTreeMap<String, Vec<u8>>;

/// The values of all secrets that are given.
pub(super) fn read(given: &[String]) -> Result<Secrets> {
    given.iter().map(|text| secret(text)).collect()
}

fn secret(text: &str) -> Result<(String, Vec<u8>)> {
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            let message = format!("invalid field '{field}' must be a key=value pair");
            return Err(Error::invalid(message));
        };
        match key.to_lowercase().as_str() {
            "id" => id = Some(value.to_owned()),
            "source" | "src" => file = Some(value.to_owned()),
            "env" => variable = Some(value.to_owned()),
            "type" if matches!(value, "file" | "env") => kind = Some(value.to_owned()),
            "type" => return Err(Error::invalid(format!("unsupported secret type {value:?}"))),
            key => return Err(Error::invalid(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        return Err(Error::invalid(format!("secret {text:?} has no id")));
    };
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = Some(file.take().unwrap_or_else(|| id.clone()));
    }
    // Without either it is the variable of its name, if there is one.
    if file.is_none() && variable.is_none() && std::env::var_os(&id).is_some() {
        variable = Some(id.clone());
    }
    let value = match variable {
        Some(variable) => {
            let value = std::env::var(&variable).map_err(|error| {
                Error::caused(Kind::NotFound, format!("read secret {id} from ${variable}"), error)
            })?;
            value.into_bytes()
        }
        None => {
            let file = file.unwrap_or_else(|| id.clone());
            std::fs::read(&file).map_err(|error| {
                Error::caused(Kind::NotFound, format!("read secret {id} from {file}"), error)
            })?
        }
    };
    match value.len() {
        0..=SECRET_BYTES_MAX => Ok((id, value)),
        _ => Err(Error::invalid(format!("secret {id} is longer than {SECRET_BYTES_MAX} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        std::fs::write(&path, "value").unwrap();
        let text = format!("id=a,src={}", path.display());
        assert_eq!(secret(&text).unwrap(), ("a".into(), b"value".to_vec()));
        for wrong in ["src=x", "id=a,src=/nowhere", "id", "id=a,x=y", "id=a,type=x"] {
            assert!(secret(wrong).is_err(), "{wrong}");
        }
    }
}
