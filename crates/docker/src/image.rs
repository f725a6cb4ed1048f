//! `GET /images/{name}/json`

use engine::{Engine, Result};
use serde_json::{Value, json};
use store::Image;

/// An image as Docker's API shows it.
///
/// # Errors
/// If its configuration cannot be read.
pub fn image(engine: &Engine, image: &Image) -> Result<Value> {
    let config = image.config(engine.store())?;
    let familiar = |references: &[oci::Reference]| -> Vec<String> {
        references.iter().map(oci::Reference::familiar).collect()
    };
    let layers: Vec<String> = image.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let trees: Vec<String> = image
        .layers
        .iter()
        .rev()
        .map(|layer| engine.store().layer_place(&layer.diff_id).display().to_string())
        .collect();
    let comment = config.history.last().map(|entry| entry.comment.clone()).unwrap_or_default();
    let data = match trees.split_first() {
        None => json!({}),
        Some((upper, [])) => json!({ "UpperDir": upper }),
        Some((upper, lower)) => json!({ "LowerDir": lower.join(":"), "UpperDir": upper }),
    };
    Ok(json!({
        "Id": image.id.to_string(),
        "RepoTags": familiar(&image.tags),
        "RepoDigests": familiar(&image.repo_digests),
        "Parent": "",
        "Comment": comment,
        "Created": image.created,
        "DockerVersion": "",
        "Author": config.author,
        "Config": super::container::config_fields(&config.config),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.size(),
        "GraphDriver": { "Data": data, "Name": "overlay2" },
        "RootFS": { "Type": "layers", "Layers": layers },
        "Metadata": { "LastTagTime": image.added },
    }))
}
