//! What a misspelt name was likely meant to be.

/// The nearest of `names` to `given`, where it is near: swapped, missing, added or wrong letters, at
/// most one in four.
pub fn nearest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (given.chars().count() / 4).max(1);
    let rated = names.into_iter().map(|name| (strsim::osa_distance(given, name), name));
    rated.filter(|(errors, _)| *errors <= most).min_by_key(|(errors, _)| *errors).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("temprature", ["k", "temperature"]), Some("temperature"));
        assert_eq!(nearest("knm", ["knn", "linear"]), Some("knn"));
        assert_eq!(nearest("forest", ["knn", "linear"]), None);
    }
}
