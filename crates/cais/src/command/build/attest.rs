//! `--attest`, `--provenance` and `--sbom`, in buildx's spelling.

use std::collections::BTreeMap;

use engine::{Attest, Error, Kind, Provenance, Result};

use super::Args;

/// Which statements were asked for.
pub(in crate::command) fn asked(args: &Args) -> Result<Attest> {
    let mut attest = Attest::default();
    for text in &args.attest {
        let mut fields = fields(text, "--attest")?;
        match fields.remove("type").as_deref() {
            Some("provenance") => attest.provenance = provenance(fields)?,
            Some("sbom") => attest.sbom = sbom(fields)?,
            Some(kind) => {
                return Err(Error::invalid(format!("unknown attestation type {kind:?}"))
                    .hint("there are provenance and sbom"));
            }
            None => return Err(Error::invalid(format!("attestation type not specified: {text}"))),
        }
    }
    if let Some(text) = &args.provenance {
        attest.provenance = provenance(shorthand(text, "--provenance")?)?;
    }
    if let Some(text) = &args.sbom {
        attest.sbom = sbom(shorthand(text, "--sbom")?)?;
    }
    Ok(attest)
}

type Fields = BTreeMap<String, String>;

fn fields(text: &str, flag: &str) -> Result<Fields> {
    let field = |field: &str| match field.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_lowercase(), value.to_owned())),
        None => Err(Error::invalid(format!("invalid value {field} of {flag}"))),
    };
    text.split(',').map(field).collect()
}

/// A boolean alone, or fields.
fn shorthand(text: &str, flag: &str) -> Result<Fields> {
    match text {
        "true" | "1" => Ok(Fields::new()),
        "false" | "0" => Ok(Fields::from([("disabled".to_owned(), "true".to_owned())])),
        text => fields(text, flag),
    }
}

fn boolean(fields: &mut Fields, name: &str) -> Result<bool> {
    match fields.remove(name).as_deref() {
        None => Ok(false),
        Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(value) => Err(Error::invalid(format!("invalid value {value:?} of {name}"))),
    }
}

fn provenance(mut fields: Fields) -> Result<Option<Provenance>> {
    let is_disabled = boolean(&mut fields, "disabled")?;
    let is_max = match fields.remove("mode").as_deref() {
        None | Some("min") => false,
        Some("max") => true,
        Some(mode) => return Err(Error::invalid(format!("invalid mode {mode:?} of provenance"))),
    };
    match fields.remove("version").as_deref() {
        None | Some("v1") => {}
        Some(version) => {
            let message = format!("version {version} of provenance is not supported");
            return Err(Error::new(Kind::Unsupported, message).hint("there is v1"));
        }
    }
    let builder = fields.remove("builder-id").unwrap_or_default();
    let is_reproducible = boolean(&mut fields, "reproducible")?;
    end(&fields, "provenance")?;
    Ok((!is_disabled).then_some(Provenance { is_max, builder, is_reproducible }))
}

fn sbom(mut fields: Fields) -> Result<bool> {
    let is_disabled = boolean(&mut fields, "disabled")?;
    if let Some(generator) = fields.remove("generator") {
        let message = format!("the generator {generator} of an SBOM is not supported");
        return Err(Error::new(Kind::Unsupported, message)
            .hint("packages are found in the data bases of dpkg, apk, pip and npm"));
    }
    end(&fields, "sbom")?;
    Ok(!is_disabled)
}

fn end(fields: &Fields, kind: &str) -> Result<()> {
    match fields.first_key_value() {
        None => Ok(()),
        Some((key, _)) => {
            let message = format!("{key} of the attestation {kind} is not supported");
            Err(Error::new(Kind::Unsupported, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attestations_are_asked_for_as_with_buildx() {
        let read = |text: &str| provenance(shorthand(text, "--provenance").unwrap());
        assert_eq!(read("true").unwrap(), Some(Provenance::default()));
        assert_eq!(read("false").unwrap(), None);
        let max = Provenance { is_max: true, builder: "https://me".into(), is_reproducible: true };
        assert_eq!(read("mode=max,builder-id=https://me,reproducible=true").unwrap(), Some(max));
        for wrong in ["mode=most", "version=v0.2", "odd=1", "disabled=maybe"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(sbom(shorthand("true", "--sbom").unwrap()).unwrap());
        assert!(!sbom(shorthand("false", "--sbom").unwrap()).unwrap());
        assert!(sbom(shorthand("generator=image", "--sbom").unwrap()).is_err());
    }
}
