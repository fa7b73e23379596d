//! What runs are called on a page.

use crate::RunFolder;

/// What a run is called.
pub(super) fn title(run: &RunFolder) -> String {
    let described = run.description();
    let named = run.exhibits().title.clone().or_else(|| described.title().map(str::to_owned));
    let card = run.exhibits().dataset.as_ref().map(|card| card.name().to_owned());
    named.unwrap_or_else(|| match (card.or_else(|| described.data()), encoder_name(run)) {
        (Some(data), Some(encoder)) => format!("{data}: {encoder}"),
        (Some(data), None) => data,
        (None, _) => run.name(),
    })
}

/// Whose cases they are: as their card says, else the data set by its name.
pub(super) fn data_name(run: &RunFolder) -> Option<String> {
    let card = run.exhibits().dataset.as_ref().map(|card| card.name().to_owned());
    run.description().text("about.data").map(str::to_owned).or(card).or_else(|| run.description().data())
}

/// The encoder of a run, as its card names it, else as it was asked for.
pub(super) fn encoder_name(run: &RunFolder) -> Option<String> {
    let asked = || run.description().encoder().map(str::to_owned);
    run.exhibits().encoder.as_ref().map(|card| card.name().to_owned()).or_else(asked)
}

/// How a run was judged, with the setting that was chosen.
pub(super) fn method(run: &RunFolder) -> String {
    let method = run.exhibits().method.as_deref().or_else(|| run.description().method()).unwrap_or_default();
    match run.metrics().and_then(|m| m.setting_label.as_deref()) {
        Some(setting) if !method.is_empty() => format!("{method}, {setting}"),
        Some(setting) => setting.to_owned(),
        None => method.to_owned(),
    }
}
