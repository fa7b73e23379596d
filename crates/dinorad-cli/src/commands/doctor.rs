//! `dinorad doctor`: is this data set, or this machine, fit for work?

use anyhow::Result;
use dinorad::{
    backbone::hub::HubOptions,
    datasets::{DoctorReport, LoadOptions, OpenOptions, Severity, doctor_with, infos},
    eval::write_atomic,
};
use serde_json::json;

use crate::{args::DoctorArgs, build::features, output::say, progress::Bar, table::table};

pub(crate) fn run(args: &DoctorArgs) -> Result<usize> {
    match (&args.dataset, &args.root) {
        (Some(name), Some(root)) => {
            let options = OpenOptions::default().with_columns(args.columns.chosen());
            let report = {
                let _bar = Bar::spinner(format!("reading every case of {name}"));
                doctor_with(name, root, &options, &LoadOptions::default())?
            };
            if let Some(path) = &args.sheet {
                let _bar = Bar::spinner("drawing the sheet");
                write_atomic(path, &crate::sheet::sheet(name, root, &options)?.to_png()?, "doctor")?;
            }
            dataset(&report, args.json)
        }
        _ => machine(args.json),
    }
}

/// The report; as many failures as findings of the worst kind.
fn dataset(report: &DoctorReport, as_json: bool) -> Result<usize> {
    if as_json {
        say!("{}", serde_json::to_string_pretty(report)?);
    } else {
        say!("{report}");
    }
    Ok(report.findings.iter().filter(|f| f.severity == Severity::Error).count())
}

fn machine(as_json: bool) -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let features = features();
    let hub = HubOptions::from_env();
    let data = super::quickstart::default_data().is_some_and(|d| d.is_dir());
    if as_json {
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"), "architecture": std::env::consts::ARCH, "cores": cores,
            "vector_extensions": vector_extensions(), "features": features, "offline": hub.offline,
            "quickstart_data": data, "datasets": infos(),
        });
        say!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(0);
    }
    let mut facts = table(&["this machine", ""], 2);
    facts.add_row(["version", env!("CARGO_PKG_VERSION")]);
    facts.add_row(["processor", std::env::consts::ARCH]);
    facts.add_row(["cores", &cores.to_string()]);
    facts.add_row(["vector extensions", &vector_extensions().join(" ")]);
    facts.add_row(["built with", &features.join(" ")]);
    facts.add_row(["Hub", if hub.offline { "offline (HF_HUB_OFFLINE)" } else { "asked when a Hub id is named" }]);
    facts.add_row(["quickstart data", if data { "found" } else { "not found: quickstart --data DIR" }]);
    say!("{facts}");
    say!("{} data sets and layouts are known by name: dinorad datasets", infos().len());
    Ok(0)
}

/// What the CPU engine can use.
fn vector_extensions() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let all = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ];
        all.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
    }
    #[cfg(target_arch = "aarch64")]
    {
        vec!["neon"]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        Vec::new()
    }
}
