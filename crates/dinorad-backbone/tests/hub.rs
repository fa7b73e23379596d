//! Downloads against a local server that speaks the Hub's protocol: nothing here needs a network.
#![cfg(feature = "hub")]

mod support;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use dinorad_backbone::{
    Backbone, LoadOptions, Request, Source,
    candle::{DType, Device, Tensor},
    hub::{self, HubError, HubFiles, HubId, HubOptions, Silent, Transfer},
    load_with,
};
use support::{COMMIT, Fault, Hub};
use tempfile::TempDir;

const ID: &str = "owner/encoder";
const WEIGHTS: &str = "model.safetensors";

/// `n` bytes that repeat nowhere near.
fn bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut out = vec![0; n];
    hasher.finalize_xof().fill(&mut out);
    out
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![("config.json", b"{}".to_vec()), (WEIGHTS, bytes(300_000, 1))]
}

/// Options that fail fast: one attempt, short patience.
fn options(hub: &Hub, cache: &TempDir) -> HubOptions {
    let mut options = HubOptions::default().with_endpoint(hub.endpoint()).with_cache_dir(cache.path());
    options.attempts = 1;
    options.answer_timeout = Duration::from_secs(10);
    options.stall_timeout = Duration::from_secs(10);
    options
}

fn fetch(id: &str, options: &HubOptions) -> Result<HubFiles, HubError> {
    hub::fetch(&id.parse::<HubId>().unwrap(), options, &mut Silent)
}

/// All that the error says, with its causes.
fn told(error: &HubError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn gets(requests: &[String]) -> usize {
    requests.iter().filter(|r| r.starts_with("GET ") && r.contains("/resolve/")).count()
}

/// The Hugging Face folders of DINOv2 for colour images among the golden cases.
fn hugging_face_folders() -> Vec<std::path::PathBuf> {
    let is_dinov2 = |folder: &std::path::PathBuf| {
        let config = folder.join("config.json");
        if !(folder.join(WEIGHTS).is_file() && config.is_file()) {
            return false;
        }
        let config = dinorad_testkit::json(&config);
        config["model_type"].as_str().is_some_and(|t| t.starts_with("dinov2"))
            && config["num_channels"].as_u64().is_none_or(|c| c == 3)
    };
    let folders = dinorad_testkit::folders(&dinorad_testkit::golden().join("backbone"));
    let folders: Vec<_> = folders.into_iter().filter(is_dinov2).collect();
    assert!(!folders.is_empty(), "no Hugging Face folder among the golden cases");
    folders
}

#[test]
fn a_downloaded_encoder_gives_the_features_of_the_local_one() {
    for folder in hugging_face_folders() {
        let (hub, cache) = (Hub::start(), TempDir::new().unwrap());
        let read = |name| fs::read(folder.join(name)).unwrap();
        hub.publish(ID, COMMIT, &[("config.json", read("config.json")), (WEIGHTS, read(WEIGHTS))]);

        let options = LoadOptions::default();
        let mut last = None;
        let mut progress = |t: &Transfer<'_>| last = Some((t.file.to_owned(), t.done, t.total));
        let source: Source = ID.parse().unwrap();
        let (remote, report) = load_with(&source, &options, &self::options(&hub, &cache), &mut progress).unwrap();
        assert!(report.is_clean(), "{report:?}");
        let length = fs::metadata(folder.join(WEIGHTS)).unwrap().len();
        assert_eq!(last, Some((WEIGHTS.to_owned(), length, length)));

        let local = Source::Path(folder.clone());
        let (local, _) = load_with(&local, &options, &HubOptions::default(), &mut Silent).unwrap();
        assert_eq!(remote.spec().digest, local.spec().digest);
        assert_eq!(remote.spec().id, ID);
        let side = local.spec().patch * 3;
        let pixels = Tensor::ones((1, 3, side, side), DType::F32, &Device::Cpu).unwrap();
        let cls = |b: &dyn Backbone| {
            b.forward(&pixels, &Request::cls())
                .unwrap()
                .last()
                .unwrap()
                .cls
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        };
        assert_eq!(cls(remote.as_ref()), cls(local.as_ref()));
    }
}

#[test]
fn a_cached_commit_sends_nothing_and_a_cached_branch_asks_once() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    let options = options(&hub, &cache);
    let first = fetch(ID, &options).unwrap();
    assert_eq!(first.commit, COMMIT);
    assert_eq!(fs::read(&first.weights).unwrap(), files()[1].1);
    assert_eq!(first.config.as_deref(), Some(first.folder.join("config.json").as_path()));
    assert_eq!(gets(&hub.requests()), 2);

    let pinned = fetch(&format!("{ID}@{COMMIT}"), &options).unwrap();
    assert_eq!(hub.requests(), Vec::<String>::new());
    assert_eq!(pinned, first);

    assert_eq!(fetch(ID, &options).unwrap(), first);
    // One small file tells what the branch stands for today.
    assert_eq!(hub.requests(), ["HEAD", "GET"].map(|m| format!("{m} /{ID}/resolve/main/config.json")));
}

#[test]
fn a_branch_that_moves_is_followed_and_its_past_stays() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    let options = options(&hub, &cache);
    let old = fetch(ID, &options).unwrap();
    let commit = "f".repeat(40);
    hub.publish(ID, &commit, &[files()[0].clone(), (WEIGHTS, bytes(200_000, 2))]);
    let new = fetch(ID, &options).unwrap();
    assert_eq!(new.commit, commit);
    assert_eq!(fs::read(&new.weights).unwrap(), bytes(200_000, 2));
    hub.requests();
    assert_eq!(fetch(&format!("{ID}@{COMMIT}"), &options).unwrap(), old);
    assert_eq!(fs::read(&old.weights).unwrap(), files()[1].1);
    assert!(hub.requests().is_empty());
}

/// Whether a file of that name is in the cache under any commit.
fn is_cached(cache: &TempDir, file: &str) -> bool {
    let snapshots = cache.path().join("models--owner--encoder/snapshots");
    fs::read_dir(snapshots).is_ok_and(|entries| entries.flatten().any(|commit| commit.path().join(file).exists()))
}

#[test]
fn a_broken_transfer_leaves_nothing_that_passes_for_a_whole_file() {
    for fault in [Fault::Cut, Fault::CutUnannounced, Fault::ErrorPage, Fault::Stall] {
        let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
        let mut options = options(&hub, &cache);
        options.stall_timeout = Duration::from_millis(400);
        hub.spoil(ID, WEIGHTS, &[fault]);
        let error = fetch(ID, &options).unwrap_err();
        match fault {
            Fault::Cut | Fault::Stall => assert!(matches!(error, HubError::Interrupted { .. }), "{fault:?}: {error:?}"),
            Fault::CutUnannounced => {
                assert!(matches!(error, HubError::Size { expected: 300_000, got: 150_000, .. }), "{error:?}");
            }
            Fault::ErrorPage => assert!(matches!(error, HubError::Size { expected: 300_000, .. }), "{error:?}"),
        }
        assert!(error.to_string().contains(WEIGHTS), "{error}");
        assert!(!is_cached(&cache, WEIGHTS), "{fault:?}");
        let offline = fetch(ID, &options.clone().with_offline(true));
        assert!(matches!(offline, Err(HubError::Offline { .. })), "{fault:?}: {offline:?}");

        // The thread of a stalled transfer keeps the lock until its server lets go.
        if fault != Fault::Stall {
            let files = fetch(ID, &options).unwrap();
            assert_eq!(fs::read(files.weights).unwrap(), self::files()[1].1, "{fault:?}");
        }
    }
}

#[test]
fn a_broken_transfer_is_tried_again() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    hub.spoil(ID, WEIGHTS, &[Fault::Cut, Fault::CutUnannounced]);
    let mut options = options(&hub, &cache);
    options.attempts = 3;
    let mut seen = Vec::new();
    let mut progress = |t: &Transfer<'_>| {
        if t.file == WEIGHTS {
            seen.push((t.done, t.total));
        }
    };
    let files = hub::fetch(&ID.parse().unwrap(), &options, &mut progress).unwrap();
    assert_eq!(fs::read(files.weights).unwrap(), self::files()[1].1);
    assert_eq!(seen.last(), Some(&(300_000, 300_000)));
    assert_eq!(hub.requests().iter().filter(|r| r.starts_with("GET ") && r.ends_with(WEIGHTS)).count(), 3);

    hub.publish(ID, &"e".repeat(40), &[(WEIGHTS, bytes(100_000, 5))]);
    hub.spoil(ID, WEIGHTS, &[Fault::Cut; 3]);
    let error = fetch(ID, &options).unwrap_err();
    assert!(matches!(error, HubError::Interrupted { attempts: 3, .. }), "{error:?}");
}

#[test]
fn a_wrong_id_is_told_from_a_wrong_revision_and_from_missing_weights() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    hub.publish("owner/notes", COMMIT, &[("README.md", b"text".to_vec())]);
    let options = options(&hub, &cache);
    let error = fetch("owner/enkoder", &options).unwrap_err();
    assert!(matches!(error, HubError::NotFound { .. }), "{error:?}");
    assert!(error.to_string().contains("owner/enkoder"), "{error}");

    for revision in ["v9", &"9".repeat(40)] {
        let error = fetch(&format!("{ID}@{revision}"), &options).unwrap_err();
        assert!(matches!(error, HubError::Revision { .. }), "{error:?}");
        assert!(error.to_string().contains(revision), "{error}");
    }

    for id in ["owner/notes".to_owned(), format!("owner/notes@{COMMIT}")] {
        let error = fetch(&id, &options).unwrap_err();
        assert!(matches!(error, HubError::NoWeights { .. }), "{error:?}");
        assert!(error.to_string().contains(WEIGHTS), "{error}");
    }
    let error = fetch(&format!("{ID}:other.safetensors"), &options).unwrap_err();
    assert!(error.to_string().contains("other.safetensors"), "{error}");
}

#[test]
fn a_missing_permission_names_the_token() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    let options = options(&hub, &cache);
    hub.hide_unknown();
    let error = fetch("owner/enkoder", &options).unwrap_err();
    assert!(matches!(error, HubError::Denied { status: 401, gated: false, .. }), "{error:?}");
    assert!(error.to_string().contains("the id is wrong") && error.to_string().contains("HF_TOKEN"), "{error}");

    hub.change(ID, |r| (r.token, r.gated) = (Some("hf_right".into()), true));
    let error = fetch(ID, &options.clone().with_token("hf_wrong")).unwrap_err();
    assert!(matches!(error, HubError::Denied { status: 403, gated: true, token: true, .. }), "{error:?}");
    assert!(error.to_string().contains("gated"), "{error}");
    assert!(!told(&error).contains("hf_wrong"), "{error}");
    fetch(ID, &options.clone().with_token("hf_right")).unwrap();
}

#[test]
fn offline_mode_reads_the_cache_alone() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    let options = options(&hub, &cache);
    let offline = options.clone().with_offline(true);
    let error = fetch(ID, &offline).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error:?}");
    for hint in [ID, "HF_HUB_OFFLINE", "HF_HOME", "folder"] {
        assert!(error.to_string().contains(hint), "{hint}: {error}");
    }
    assert!(hub.requests().is_empty());

    let online = fetch(ID, &options).unwrap();
    hub.requests();
    assert_eq!(fetch(ID, &offline).unwrap(), online);
    assert_eq!(fetch(&format!("{ID}@{COMMIT}"), &offline).unwrap(), online);
    assert!(hub.requests().is_empty());
}

#[test]
fn without_a_network_the_cache_serves_and_else_the_way_out_is_named() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    let there = options(&hub, &cache);
    let online = fetch(ID, &there).unwrap();
    // A port that was free a moment ago: nothing listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = there.clone().with_endpoint(format!("http://{free}"));
    assert_eq!(fetch(ID, &gone).unwrap(), online);

    let empty = TempDir::new().unwrap();
    let error = fetch(ID, &gone.with_cache_dir(empty.path())).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error:?}");
    for hint in [ID, "HF_HOME", "folder", &free.to_string()] {
        assert!(error.to_string().contains(hint), "{hint}: {error}");
    }
}

#[test]
fn a_server_that_never_answers_does_not_hold_us() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    let mut options = options(&hub, &cache);
    let online = fetch(ID, &options).unwrap();
    hub.fall_silent();
    options.answer_timeout = Duration::from_millis(300);
    let started = Instant::now();
    assert_eq!(fetch(ID, &options).unwrap(), online);
    let empty = TempDir::new().unwrap();
    let error = fetch(ID, &options.with_cache_dir(empty.path())).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error:?}");
    assert!(told(&error).contains("no answer"), "{}", told(&error));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

fn index(shards: &[&str]) -> Vec<u8> {
    let map: serde_json::Map<_, _> = shards.iter().enumerate().map(|(i, s)| (format!("t{i}"), (*s).into())).collect();
    serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string().into_bytes()
}

#[test]
fn all_shards_of_an_index_come() {
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let listed = [
        ("config.json", b"{}".to_vec()),
        ("model.safetensors.index.json", index(&[shards[1], shards[0], shards[1]])),
        (shards[0], bytes(1000, 1)),
        (shards[1], bytes(1000, 2)),
    ];
    let (hub, cache) = (Hub::with(ID, &listed), TempDir::new().unwrap());
    let files = fetch(ID, &options(&hub, &cache)).unwrap();
    assert!(files.weights.ends_with("model.safetensors.index.json"));
    assert_eq!(files.shards, shards.map(|s| files.folder.join(s)));
    assert_eq!(fs::read(&files.shards[1]).unwrap(), bytes(1000, 2));
    hub.requests();
    fetch(&format!("{ID}@{COMMIT}"), &options(&hub, &cache)).unwrap();
    assert!(hub.requests().is_empty());
}

#[test]
fn a_bad_index_is_refused() {
    for (content, part) in [
        (index(&["../../../stolen"]), "stolen"),
        (index(&["/etc/hostname"]), "/etc/hostname"),
        (index(&["missing.safetensors"]), "missing.safetensors"),
        (index(&[]), "0 files"),
        (b"not json".to_vec(), "no index"),
        (b"{\"weight_map\": 3}".to_vec(), "no index"),
    ] {
        let (hub, cache) = (Hub::with(ID, &[("model.safetensors.index.json", content)]), TempDir::new().unwrap());
        let error = fetch(ID, &options(&hub, &cache)).unwrap_err();
        assert!(matches!(error, HubError::Index { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[test]
fn a_file_can_be_named_and_older_weights_are_found() {
    // RAD-DINO's two layouts side by side.
    let listed =
        [("config.json", b"{}".to_vec()), (WEIGHTS, bytes(100, 1)), ("backbone_compatible.safetensors", bytes(100, 2))];
    let (hub, cache) = (Hub::with(ID, &listed), TempDir::new().unwrap());
    let options = options(&hub, &cache);
    assert_eq!(fs::read(fetch(ID, &options).unwrap().weights).unwrap(), bytes(100, 1));
    let named = fetch(&format!("{ID}:backbone_compatible.safetensors"), &options).unwrap();
    assert_eq!(fs::read(named.weights).unwrap(), bytes(100, 2));

    hub.publish("owner/old", COMMIT, &[("pytorch_model.bin", bytes(100, 3))]);
    let old = fetch("owner/old", &options).unwrap();
    assert_eq!(fs::read(&old.weights).unwrap(), bytes(100, 3));
    assert_eq!(old.config, None);
    // The cache has noted what the commit lacks, so that nothing is asked again.
    hub.requests();
    assert_eq!(fetch(&format!("owner/old@{COMMIT}"), &options).unwrap(), old);
    assert!(hub.requests().is_empty());
    assert_eq!(fetch("owner/old", &options.with_offline(true)).unwrap(), old);
}

#[test]
fn branches_with_slashes_work() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    hub.change(ID, |r| drop(r.branches.insert("refs/pr/3".into(), COMMIT.into())));
    let options = options(&hub, &cache);
    let files = fetch(&format!("{ID}@refs/pr/3"), &options).unwrap();
    assert_eq!(files.commit, COMMIT);
    assert_eq!(fetch(&format!("{ID}@refs/pr/3"), &options.with_offline(true)).unwrap(), files);
}

#[test]
fn several_at_once_end_with_the_same_files() {
    for _ in 0..10 {
        let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
        let options = options(&hub, &cache);
        // Each reads what it got while others still fetch, some from the beginning.
        let fetch_and_read = || {
            for _ in 0..3 {
                let got = fetch(ID, &options).unwrap();
                for (path, (name, bytes)) in [got.config.unwrap(), got.weights].into_iter().zip(files()) {
                    assert_eq!(fs::read(&path).unwrap_or_else(|e| panic!("{name}: {e}")), bytes);
                }
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..6).map(|_| scope.spawn(fetch_and_read)).collect();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
        });
        let weights = hub.requests().iter().filter(|r| r.starts_with("GET ") && r.ends_with(WEIGHTS)).count();
        assert_eq!(weights, 1, "what one has fetched the others find");
    }
}

#[test]
fn another_process_that_stands_still_does_not_hold_us() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    let mut options = options(&hub, &cache);
    options.stall_timeout = Duration::from_millis(300);
    let folder = cache.path().join(".locks").join(format!("models--{}", ID.replace('/', "--")));
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.join("dinorad.lock")).unwrap();
    lock.lock().unwrap();
    let error = fetch(ID, &options).unwrap_err();
    assert!(matches!(error, HubError::Interrupted { .. }), "{error:?}");
    assert!(told(&error).contains("dinorad.lock"), "{}", told(&error));
    lock.unlock().unwrap();
    let files = fetch(ID, &options).unwrap();
    // With all in the cache no lock is needed.
    lock.lock().unwrap();
    assert_eq!(fetch(ID, &options).unwrap(), files);
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let (hub, cache) = (Hub::with(ID, &files()), TempDir::new().unwrap());
    let file = cache.path().join("file");
    fs::write(&file, b"x").unwrap();
    let error = fetch(ID, &options(&hub, &cache).with_cache_dir(&file)).unwrap_err();
    assert!(matches!(error, HubError::Cache { .. }), "{error:?}");
    assert!(error.to_string().contains(Path::new("file").to_str().unwrap()), "{error}");
}
