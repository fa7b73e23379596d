//! Features are made once: `embed`, `eval`, `export` and `store` on one folder of stores.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::{fs, path::Path};

use common::{Desk, files, pictures, png};
use serde_json::Value;

const EMBED: &str = "embed --json --image-size 28 --out features --backbone untrained:tiny";
const KNN: &str = "eval knn --dataset folder --root images --k 1,3 --image-size 28 --draws 20 --no-controls --features features \
     --backbone untrained:tiny";

/// 40 different pictures of two classes in the parts of an image folder.
fn image_folder(desk: &Desk, name: &str) {
    for i in 0..40u32 {
        let part = ["train", "train", "train", "val", "test"][i as usize % 5];
        let folder = desk.path(name).join(part).join(["healthy", "sick"][i as usize / 5 % 2]);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{i:02}.png")), png(24 + i % 9, 24 + i % 7, i + 1)).unwrap();
    }
}

fn only_store(desk: &Desk) -> Value {
    let listing = desk.run("store list features --json", &[], 0).json();
    let stores = listing["stores"].as_array().unwrap();
    assert_eq!(stores.len(), 1, "{listing}");
    stores[0].clone()
}

#[test]
fn what_was_embedded_is_not_encoded_again_to_be_judged() {
    let desk = Desk::new();
    image_folder(&desk, "images");
    let first = desk.run(&format!("{EMBED} images"), &[], 0).json();
    assert_eq!((first["embedded"].as_u64(), first["set"].as_str()), (Some(40), Some("images")));
    let store = desk.store("features");
    let shards = |store: &Path| files(store).keys().filter(|name| name.ends_with(".safetensors")).count();
    let before = shards(&store);
    desk.run(&format!("{KNN} --out run"), &[], 0);
    assert_eq!((desk.store("features"), shards(&store)), (store.clone(), before), "`eval` encoded something");
    assert_eq!(only_store(&desk)["cases"], 40);

    // one file more is one case more, by either way
    fs::write(desk.path("images/train/sick/new.png"), png(31, 31, 99)).unwrap();
    let again = desk.run(&format!("{EMBED} images"), &[], 0).json();
    assert_eq!((&again["embedded"], &again["reused"], &again["images"]), (&1.into(), &40.into(), &1.into()));
    fs::write(desk.path("images/test/healthy/other.png"), png(31, 31, 100)).unwrap();
    desk.run(&format!("{KNN} --out again"), &[], 0);
    assert_eq!(only_store(&desk)["cases"], 42);
    let last = desk.run(&format!("{EMBED} images"), &[], 0).json();
    assert_eq!((&last["embedded"], &last["reused"]), (&0.into(), &42.into()));

    // the manifest says by what and of what
    let manifest: Value = serde_json::from_slice(&fs::read(store.join("manifest.json")).unwrap()).unwrap();
    let encoder = &manifest["encoder"];
    assert_eq!((encoder["precision"].as_str(), encoder["device"].as_str()), (Some("f32"), Some("cpu")));
    assert_eq!(encoder["digest"].as_str().unwrap().len(), 64);
    let sets: Vec<&String> = manifest["sets"].as_object().unwrap().keys().collect();
    assert_eq!(sets, ["folder-test", "folder-train", "folder-val", "images"]);
    let cases = manifest["sets"]["folder-val"]["cases"].as_array().unwrap();
    assert!(cases.iter().all(|case| case["source"].as_str().unwrap().starts_with("val/")), "{cases:?}");
}

#[test]
fn results_are_never_taken_for_input() {
    let desk = Desk::new();
    image_folder(&desk, "images");
    let embed = "embed . --json --image-size 28 --backbone untrained:tiny";
    let first = desk.run(embed, &[], 0).json();
    assert_eq!((&first["embedded"], first["failures"].as_array().unwrap().len()), (&40.into(), 0));
    let store = desk.store("features");
    let before = files(&store);
    let said = desk.run(embed, &[], 0);
    let second = said.json();
    assert_eq!((&second["embedded"], &second["reused"]), (&0.into(), &40.into()));
    said.names(&["note: 1 feature store passed over"]);
    assert!(files(&store) == before);
    // caches as well, and a data set's own folder may hold stores
    fs::create_dir(desk.path("cache")).unwrap();
    fs::write(desk.path("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n").unwrap();
    fs::write(desk.path("cache/a.png"), png(30, 30, 200)).unwrap();
    let said = desk.run(embed, &[], 0);
    assert_eq!(said.json()["embedded"], 0);
    said.names(&["1 feature store, 1 cache passed over"]);
    desk.run("embed features --image-size 28 --out other --backbone untrained:tiny", &[], 1)
        .names(&["results of dinorad"]);
    fs::rename(desk.path("features"), desk.path("images/features")).unwrap();
    desk.run(&format!("{} --out run", KNN.replace("--features features", "--features images/features")), &[], 0);
}

#[test]
fn ids_tell_the_files_of_several_folders_apart() {
    let desk = Desk::new();
    for (i, patient) in ["P01", "P02", "P03"].iter().enumerate() {
        fs::create_dir_all(desk.path(format!("scans/{patient}/S1"))).unwrap();
        fs::write(desk.path(format!("scans/{patient}/S1/a.png")), png(30, 30, i as u32 + 1)).unwrap();
    }
    let summary = desk.run(&format!("{EMBED} scans/P01 scans/P02 ./scans/P03 scans/P01"), &[], 0).json();
    assert_eq!((&summary["embedded"], &summary["reused"]), (&3.into(), &0.into()));
    desk.run("export features --format npy --out arrays", &[], 0);
    let ids: Vec<String> = serde_json::from_slice(&fs::read(desk.path("arrays/ids.json")).unwrap()).unwrap();
    assert_eq!(ids, ["P01/S1/a.png", "P02/S1/a.png", "P03/S1/a.png"]);
}

#[test]
fn stores_are_listed_and_tidied() {
    let desk = Desk::new();
    pictures(&desk.path("input"), 5);
    desk.run(&format!("{EMBED} input"), &[], 0);
    desk.run(&format!("{EMBED} input --patches"), &[], 0);
    desk.run(&format!("{}?seed=2 input", EMBED), &[], 0);
    let said = desk.run("store list features", &[], 0).stdout;
    for word in ["untrained:tiny?seed=2", "f32", "input (5)", "resize", "axes canonical"] {
        assert!(said.contains(word), "`{word}` is not in {said}");
    }
    let before = desk.run("store list features --json", &[], 0).json();
    let told = desk.run("store prune features", &[], 0).stdout;
    assert!(told.contains("5 of 5 entries") && told.contains("--yes"), "{told}");
    assert_eq!(desk.run("store list features --json", &[], 0).json(), before);
    desk.run("store prune features --yes", &[], 0);
    assert!(desk.run("store prune features", &[], 0).stdout.contains("nothing to remove"));
    // what is left serves both
    for more in ["", " --patches"] {
        assert_eq!(desk.run(&format!("{EMBED} input{more}"), &[], 0).json()["embedded"], 0, "{more}");
    }
    desk.run("store prune features --encoder untrained:tiny?seed=2 --yes", &[], 0);
    assert_eq!(only_store(&desk)["key"]["encoder"]["id"], "untrained:tiny?seed=0");

    // a store of the first format says what to do
    let old = desk.path("features/0123456789abcdef0123456789abcdef");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("manifest.json"), "{\"format\": 1}").unwrap();
    fs::write(old.join("shard-00000.safetensors"), "old").unwrap();
    desk.run("export features/0123456789abcdef0123456789abcdef --out no.parquet", &[], 2).names(&[
        "format 1",
        "embed again",
        "store prune --older-format",
    ]);
    assert!(desk.run("store list features", &[], 0).stdout.contains("format 1"));
    desk.run("store prune features --older-format --yes", &[], 0);
    assert!(!old.exists());
    desk.run("store list nowhere", &[], 2).names(&["nowhere"]);
}

#[test]
fn two_processes_embed_into_one_store_at_once() {
    let desk = Desk::new();
    pictures(&desk.path("a"), 30);
    fs::create_dir(desk.path("b")).unwrap();
    for i in 0..30 {
        fs::write(desk.path(format!("b/{i:02}.png")), png(28, 28, 500 + i)).unwrap();
    }
    for round in 0..3 {
        let out = format!("store-{round}");
        let start = |input: &str| {
            let args = format!("embed {input} --image-size 28 --shard-size 4 --out {out} --backbone untrained:tiny");
            desk.command(&args, &[]).spawn().unwrap()
        };
        let both = [start("a"), start("b")];
        assert_eq!(both.map(|mut p| p.wait().unwrap().code()), [Some(0), Some(0)]);
        let store = desk.store(&out);
        let manifest: Value = serde_json::from_slice(&fs::read(store.join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["items"], 60);
        // in whatever order they came, the same bytes
        common::assert_same_files(&store, &desk.store("store-0"), &out);
    }
}
