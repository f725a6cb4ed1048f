//! `cais image tree`

use std::collections::BTreeMap;

use engine::{Engine, Error, Result};
use oci::{Digest, Reference};
use serde_json::{Value, json};
use store::{Image, LayerUse};

use crate::output::{self, Format, Row, printable_line};
use crate::session::Session;

const TABLE: &str = "{{.Layer}}\t{{.Size}}\t{{.Wasted}}\t{{.CreatedBy}}";
const HEADERS: &[(&str, &str)] = &[
    ("Layer", "LAYER"),
    ("Digest", "DIGEST"),
    ("Size", "SIZE"),
    ("Wasted", "HIDDEN"),
    ("CreatedBy", "CREATED BY"),
];
/// Characters of an instruction that a table shows.
const INSTRUCTION_WIDTH: usize = 60;
/// Hidden files that are shown below the table unless all are asked for, the largest.
const HIDDEN_SHOWN: usize = 10;

/// What `image tree` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    format: Option<String>,
    /// Show whole instructions, and every hidden file
    #[arg(long)]
    no_trunc: bool,
    /// The image, by name or id (default: all images)
    image: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    match &args.image {
        Some(name) => layers(session, engine, &engine.image(name)?, args),
        None => forest(session, &engine.images()?, args.format.as_deref()),
    }
}

/// The layers of one image, the topmost first.
fn layers(session: &Session, engine: &Engine, image: &Image, args: &Args) -> Result<i32> {
    let uses = engine.store().layer_uses(&image.diff_ids())?;
    let history = image.config(engine.store())?.history;
    let mut made = history.iter().filter(|entry| !entry.empty_layer).map(|entry| &entry.created_by);
    let mut rows = Vec::new();
    let is_json = args.format.as_deref() == Some("json");
    for (index, layer) in uses.iter().enumerate() {
        let by = made.next().map_or("", String::as_str).replace('\t', " ");
        rows.push(row(index + 1, layer, &by, is_json, args.no_trunc));
    }
    rows.reverse();
    let format = Format::parse(args.format.as_deref(), TABLE);
    super::show(session, args.format.as_deref(), false, TABLE, HEADERS, &rows)?;
    if let Format::Table(_) = format {
        session.print(&hidden(&uses, args.no_trunc))?;
    }
    Ok(0)
}

fn row(number: usize, layer: &LayerUse, by: &str, is_json: bool, whole: bool) -> Row {
    let digest = layer.diff_id.to_string();
    if is_json {
        let hidden = layer.hidden.iter().map(|file| {
            json!({
                "Path": file.path.to_string_lossy(),
                "Size": file.size,
                "By": file.by + 1,
                "How": if file.is_replaced { "replaced" } else { "deleted" },
            })
        });
        return Row::from(json!({
            "Layer": number,
            "Digest": digest,
            "Size": layer.size,
            "Wasted": layer.wasted,
            "CreatedBy": by,
            "Hidden": hidden.collect::<Vec<_>>(),
        }));
    }
    let wasted = match layer.hidden.len() {
        0 => "-".to_owned(),
        count => format!("{} in {count}", output::human_size(layer.wasted, 3)),
    };
    Row::from(json!({
        "Layer": number,
        "Digest": digest,
        "Size": output::human_size(layer.size, 3),
        "Wasted": wasted,
        "CreatedBy": if whole { by.to_owned() } else { output::ellipsis(by, INSTRUCTION_WIDTH) },
    }))
}

/// What is below the table: the largest files that nobody sees, and the sum.
fn hidden(uses: &[LayerUse], whole: bool) -> String {
    let mut files: Vec<(usize, &store::Hidden)> = Vec::new();
    for (index, layer) in uses.iter().enumerate() {
        files.extend(layer.hidden.iter().map(|file| (index + 1, file)));
    }
    let count = files.len();
    files.sort_by(|(_, a), (_, b)| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
    files.truncate(if whole { count } else { HIDDEN_SHOWN });
    let mut text = String::new();
    for (number, file) in &files {
        let how = if file.is_replaced { "replaced" } else { "deleted" };
        let path = file.path.to_string_lossy();
        text.push_str(&format!(
            "{} of layer {number}, {how} by layer {}: {}\n",
            output::human_size(file.size, 3),
            file.by + 1,
            printable_line(&path)
        ));
    }
    if files.len() < count {
        text.push_str(&format!("… and {} more (--no-trunc)\n", count - files.len()));
    }
    let (size, wasted) = (sum(uses, |l| l.size), sum(uses, |l| l.wasted));
    text.push_str(&format!(
        "{} in {} layers, {} of it hidden in {count} files\n",
        output::human_size(size, 3),
        uses.len(),
        output::human_size(wasted, 3)
    ));
    text
}

fn sum(uses: &[LayerUse], of: impl Fn(&LayerUse) -> u64) -> u64 {
    uses.iter().map(of).sum()
}

/// Images by the layers that they begin with.
#[derive(Default)]
struct Node {
    size: u64,
    images: Vec<String>,
    above: BTreeMap<Digest, Node>,
}

fn forest(session: &Session, images: &[Image], format: Option<&str>) -> Result<i32> {
    let mut root = Node::default();
    for image in images {
        let mut at = &mut root;
        for layer in &image.layers {
            at = at.above.entry(layer.diff_id).or_default();
            at.size = layer.size;
        }
        at.images.extend(names(image));
        at.images.sort();
    }
    match format {
        None | Some("table") => {
            let mut text = String::new();
            for name in &root.images {
                text.push_str(&format!("{name}\n"));
            }
            draw(&root, "", true, &mut text);
            session.print(&text)?;
        }
        Some("json") => session.say(Value::Array(as_json(&root)).to_string())?,
        Some(other) => {
            return Err(Error::invalid(format!("invalid format '{other}' of a tree"))
                .hint("all images are shown as a table or as json; name an image for a template"));
        }
    }
    Ok(0)
}

fn names(image: &Image) -> Vec<String> {
    match image.tags.is_empty() {
        true => vec![image.id.to_string()["sha256:".len()..][..12].to_owned()],
        false => image.tags.iter().map(Reference::familiar).collect(),
    }
}

/// Draws what stands above a layer; layers that are in exactly the same images are one line.
fn draw(node: &Node, indent: &str, is_top: bool, text: &mut String) {
    let last = node.above.len().saturating_sub(1);
    for (index, (mut digest, mut above)) in node.above.iter().enumerate() {
        let (branch, more) = match (is_top, index == last) {
            (true, _) => ("", ""),
            (false, true) => ("└─ ", "   "),
            (false, false) => ("├─ ", "│  "),
        };
        let (mut size, mut count) = (above.size, 1);
        while above.images.is_empty()
            && above.above.len() == 1
            && let Some(next) = above.above.iter().next()
        {
            (digest, above) = next;
            size += above.size;
            count += 1;
        }
        let names = above.images.iter().map(|name| format!("  {name}")).collect::<String>();
        let layers = if count == 1 { "1 layer".to_owned() } else { format!("{count} layers") };
        let size = output::human_size(size, 3);
        text.push_str(&format!(
            "{indent}{branch}{} {size} in {layers}{names}\n",
            &digest.hex()[..12]
        ));
        draw(above, &format!("{indent}{more}"), false, text);
    }
}

fn as_json(node: &Node) -> Vec<Value> {
    let above = node.above.iter().map(|(digest, above)| {
        json!({
            "Digest": digest.to_string(),
            "Size": above.size,
            "Images": above.images,
            "Above": as_json(above),
        })
    });
    above.collect()
}
