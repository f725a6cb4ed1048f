//! `cais autoscale`

use serde_json::{Value, json};

use super::super::cluster::file::Files;
use super::super::cluster::select::{self, Item};
use super::super::cluster::{self, Outcome, Query, Trouble, name};
use super::report::{DryRun, Printed};
use crate::session::Session;

/// What `autoscale` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The most that there are to be
    #[arg(long, value_name = "NUMBER", required = true)]
    max: i64,
    /// The least that there are to be
    #[arg(long, value_name = "NUMBER")]
    min: Option<i64>,
    /// The share of the processor's time that pods ask for (80%), or an amount (500m)
    #[arg(long, value_name = "TARGET")]
    cpu: Option<String>,
    /// The share of the memory that pods ask for (80%), or an amount (100Mi)
    #[arg(long, value_name = "TARGET")]
    memory: Option<String>,
    /// The same as --cpu, in percent
    #[arg(long, value_name = "PERCENT", conflicts_with = "cpu")]
    cpu_percent: Option<i64>,
    /// The autoscaler's name; without one, that of what is scaled
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    dry_run: DryRun,
    /// json, yaml, name, …
    #[arg(short, long, value_name = "FORM")]
    output: Option<String>,
    #[command(flatten)]
    cluster: cluster::Options,
    /// A kind and a name, or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    words: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        if args.max < 1 {
            return Err(Trouble::local("--max=MAXPODS is required and must be at least 1, max: 0"));
        }
        if args.min.is_some_and(|min| min > args.max) {
            return Err(Trouble::local(format!(
                "--max=MAXPODS must be larger or equal to --min=MINPODS, max: {}, min: {}",
                args.max,
                args.min.unwrap_or_default()
            )));
        }
        let cluster = args.cluster.connect(session)?;
        let items = select::all(&cluster, &args.words, &args.files)?;
        let printed = Printed::new(session, args.output.as_deref())?;
        let scalers = cluster.kind("horizontalpodautoscalers.v2.autoscaling")?;
        for (item, object) in select::each(&cluster, items, &Query::new())? {
            let scaler = args.scaler(&item, &object)?;
            let made = match args.dry_run.is_client() {
                true => scaler,
                false => {
                    let path = scalers.path(&item.namespace, &[], &args.dry_run.query());
                    cluster.send("POST", path, "application/json", &scaler)?.1
                }
            };
            printed.show(&made, &args.dry_run.says("autoscaled"), cluster.kinds()?)?;
        }
        Ok(0)
    })
}

impl Args {
    fn scaler(&self, item: &Item, object: &Value) -> Outcome<Value> {
        let percent = self.cpu_percent.map(|percent| format!("{percent}%"));
        let cpu = self.cpu.clone().or(percent);
        let mut metrics = Vec::new();
        for (resource, target) in [("cpu", &cpu), ("memory", &self.memory)] {
            if let Some(target) = target {
                metrics.push(metric(resource, target)?);
            }
        }
        let own = self.name.as_deref().unwrap_or(name(object));
        let mut scaler = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": own, "namespace": item.namespace},
            "spec": {
                "maxReplicas": self.max,
                "scaleTargetRef": {
                    "apiVersion": item.kind.api_version(), "kind": item.kind.kind,
                    "name": name(object),
                },
            },
        });
        if let Some(min) = self.min.filter(|min| *min > 0) {
            scaler["spec"]["minReplicas"] = min.into();
        }
        if !metrics.is_empty() {
            scaler["spec"]["metrics"] = metrics.into();
        }
        Ok(scaler)
    }
}

fn metric(resource: &str, target: &str) -> Outcome<Value> {
    let target =
        match target.strip_suffix('%').or(Some(target).filter(|own| own.parse::<i64>().is_ok())) {
            Some(percent) => {
                let percent: i64 = percent.parse().map_err(|_| {
                    Trouble::local(format!("failed to parse {resource} value \"{target}\""))
                })?;
                json!({"type": "Utilization", "averageUtilization": percent})
            }
            None => json!({"type": "AverageValue", "averageValue": target}),
        };
    Ok(json!({"type": "Resource", "resource": {"name": resource, "target": target}}))
}
