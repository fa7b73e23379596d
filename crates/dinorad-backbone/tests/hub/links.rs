//! Links inside the cache that lead elsewhere are not written through.

use std::{collections::BTreeMap, os::unix::fs::symlink, path::PathBuf};

use super::{hostile::Home, *};
use crate::support::sha256;

const NEXT: &str = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";

/// All that lies outside the cache.
fn outside(home: &Home) -> BTreeMap<PathBuf, String> {
    let cache = home.path("cache");
    home.snapshot().into_iter().filter(|(path, _)| !path.starts_with(&cache)).collect()
}

/// The branch has moved to a commit with new weights and without a preprocessor's configuration,
/// so that blobs, names, notes, the branch and locks are all written.
fn moved_hub() -> Hub {
    let hub = Hub::with(ID, &files());
    hub.change(ID, |r| (r.large, r.ranges) = (true, true));
    hub.publish(ID, NEXT, &[("config.json", b"{ }".to_vec()), (WEIGHTS, bytes(1000, 7))]);
    hub
}

#[test]
fn folders_and_files_that_are_links_are_not_written_through() {
    let tag = sha256(&bytes(1000, 7));
    let (partial, blob, lock) = (
        format!("blobs/{tag}.incomplete"),
        format!("blobs/{tag}"),
        format!("cache/.locks/models--owner--encoder/{tag}.lock"),
    );
    for (name, is_folder) in [
        ("cache/models--owner--encoder", true),
        ("cache/models--owner--encoder/blobs", true),
        ("cache/models--owner--encoder/snapshots", true),
        (&*format!("cache/models--owner--encoder/snapshots/{NEXT}"), true),
        ("cache/models--owner--encoder/refs", true),
        ("cache/models--owner--encoder/.no_exist", true),
        (&*format!("cache/models--owner--encoder/.no_exist/{NEXT}"), true),
        ("cache/.locks", true),
        ("cache/.locks/models--owner--encoder", true),
        ("cache/.locks/models--owner--encoder/dinorad.lock", false),
        (&*lock, false),
        (&*format!("cache/models--owner--encoder/{partial}"), false),
        (&*format!("cache/models--owner--encoder/{blob}"), false),
        ("cache/models--owner--encoder/refs/main", false),
        (&*format!("cache/models--owner--encoder/snapshots/{NEXT}/{WEIGHTS}"), false),
    ] {
        for hard in [false, true] {
            // The bytes elsewhere are those that would be continued.
            let home = Home::new();
            let elsewhere = home.path("elsewhere");
            let link = home.path(name);
            if is_folder && hard {
                continue;
            }
            if is_folder {
                // Moved away whole, with a link in its place.
                match link.is_dir() {
                    true => fs::rename(&link, &elsewhere).unwrap(),
                    false => fs::create_dir_all(&elsewhere).unwrap(),
                }
            } else {
                fs::write(&elsewhere, &bytes(1000, 7)[..500]).unwrap();
                drop(fs::remove_file(&link));
            }
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            match hard {
                true => fs::hard_link(&elsewhere, &link).unwrap(),
                false => symlink(&elsewhere, &link).unwrap(),
            }
            let (hub, before) = (moved_hub(), outside(&home));
            let result = fetch(ID, &home.options(&hub.endpoint()));
            assert_eq!(outside(&home), before, "{name}, hard: {hard}");
            match result {
                Ok(files) => {
                    // What is renamed into place needs nothing there; a name of the commit is read as it is.
                    assert!(!is_folder && !name.ends_with(".lock") && !name.ends_with(".incomplete"), "{name}");
                    let read = if name.ends_with(WEIGHTS) { bytes(1000, 7)[..500].to_vec() } else { bytes(1000, 7) };
                    assert_eq!(fs::read(files.weights).unwrap(), read, "{name}");
                }
                Err(error) => {
                    assert!(matches!(error, HubError::Cache { .. }), "{name}: {error:?}");
                    assert!(told(&error).contains("(a link?)"), "{name}: {}", told(&error));
                }
            }
        }
    }
}

#[test]
fn links_that_stay_inside_and_the_caches_own_link_work() {
    let (home, hub) = (Home::new(), moved_hub());
    symlink(home.path("cache"), home.path("link")).unwrap();
    let options = home.options(&hub.endpoint()).with_cache_dir(home.path("link"));
    let files = fetch(ID, &options).unwrap();
    assert_eq!(fs::read(files.weights).unwrap(), bytes(1000, 7));
    let name = home.model("snapshots").join(NEXT).join(WEIGHTS);
    let to = Path::new("../../blobs").join(sha256(&bytes(1000, 7)));
    assert_eq!(fs::read_link(name).unwrap(), to, "as Python writes it");
    assert_eq!(fs::read_to_string(home.model("refs/main")).unwrap(), NEXT);
    assert!(home.model(".no_exist").join(NEXT).join("preprocessor_config.json").is_file());
}
