//! Weight files made to exhaust memory, overflow or hang: each must be refused for little.
//!
//! All attacks run one after the other in one test, so that the peak of memory is theirs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dinorad_backbone::{Error, LoadOptions, inspect};

/// A stored zip member and its entry in the directory.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let (len, at) = ((bytes.len() as u32).to_le_bytes(), (out.len() as u32).to_le_bytes());
        let name_len = (name.len() as u16).to_le_bytes();
        out.extend(b"PK\x03\x04");
        out.extend([0; 14]);
        out.extend([len, len].concat());
        out.extend([name_len, [0; 2]].concat());
        out.extend(name.as_bytes());
        out.extend(*bytes);
        directory.extend(b"PK\x01\x02");
        directory.extend([0; 16]);
        directory.extend([len, len].concat());
        directory.extend(name_len);
        directory.extend([0; 12]);
        directory.extend(at);
        directory.extend(name.as_bytes());
    }
    let (start, count) = ((out.len() as u32).to_le_bytes(), (members.len() as u16).to_le_bytes());
    let size = (directory.len() as u32).to_le_bytes();
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count, count].concat());
    out.extend([size, start].concat());
    out.extend([0; 2]);
    out
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// `('storage', FloatStorage, key, 'cpu', n)` up to the key.
fn storage(key: &[u8]) -> Vec<u8> {
    [b"(", &text("storage")[..], b"ctorch\nFloatStorage\n", key, &text("cpu"), b"K\x01tQ"].concat()
}

/// Elements `(n,)` of storage `0`, from its beginning.
fn tensor(n: u32) -> Vec<u8> {
    let n = [b"J", &n.to_le_bytes()[..]].concat();
    [b"ctorch._utils\n_rebuild_tensor_v2\n(", &storage(&text("0"))[..], b"K\0", &n, b"\x85K\x01\x85\x89NtR"].concat()
}

fn repeated(start: &[u8], again: &[u8], times: usize) -> Vec<u8> {
    [b"\x80\x02", start, &again.repeat(times), b"N."].concat()
}

/// What is said about an archive of this object and 64 KiB of numbers.
fn refused(folder: &Path, name: &str, object: &[u8]) -> String {
    let data = vec![0u8; 1 << 16];
    refused_file(folder, name, &archive(&[("a/data.pkl", object), ("a/data/0", &data)]))
}

fn refused_file(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    let (before, start) = (peak_mib(), Instant::now());
    let error = inspect(&path, &LoadOptions::default().with_heads(4)).unwrap_err();
    let (grown, took) = (peak_mib() - before, start.elapsed());
    println!("{name:<28} {:>5} KiB, peak +{grown} MiB, {took:.1?}: {error}", bytes.len() >> 10);
    // A thread's first allocation alone reserves 64 MiB of addresses, and three tests and their workers
    // run side by side; the attacks are after gigabytes.
    assert!(grown < 320 + 160 * (bytes.len() >> 20), "{name}: {grown} MiB");
    assert!(took < Duration::from_secs(20), "{name}: {took:?}");
    error.to_string()
}

/// The most memory this process ever asked for, touched or not.
fn peak_mib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmPeak:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok()).map_or(0, |kib| kib >> 10)
}

#[test]
fn attacks_on_memory_are_refused_for_little() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let long = text(&"k".repeat(200_000));

    // A memoised key of any length for every storage.
    let id = [b"(", &text("storage")[..], b"ctorch\nFloatStorage\n", &long, b"NNtq\x01"].concat();
    assert!(refused(folder, "storage_keys.pth", &repeated(&id, b"h\x01Q0", 100_000)).contains("no tensors"));
    // A key at the limit is shared, not copied.
    let id = [b"(", &text("storage")[..], b"ctorch\nFloatStorage\n", &text(&"k".repeat(1024)), b"NNtq\x01"].concat();
    refused(folder, "short_storage_keys.pth", &repeated(&id, b"h\x01Q0", 300_000));
    // Names of classes taken from the memo.
    let name = [&long[..], b"q\x01"].concat();
    refused(folder, "stack_globals.pth", &repeated(&name, b"h\x01h\x01\x930", 100_000));
    // One long tuple as the arguments of many calls.
    let call = [b"ccollections\nOrderedDict\nq\x01(", &[b'N'; 200_000][..], b"tq\x02"].concat();
    refused(folder, "long_arguments.pth", &repeated(&call, b"h\x01h\x02R0", 100_000));
    // A shape of very many axes.
    let (axes, id) = ([b"(", &b"K\x01".repeat(200_000)[..], b"tq\x01"].concat(), storage(&text("0")));
    let one = [b"ctorch._utils\n_rebuild_tensor_v2\n(", &id[..], b"K\0h\x01h\x01\x89NtR"].concat();
    assert!(refused(folder, "many_axes.pth", &repeated(&axes, &one, 1)).contains("without storage or sizes"));
    // Empty lists that inherit the room of a stack that once was long.
    let grow = [b"(", &[b'N'; 500_000][..], b"1"].concat();
    refused(folder, "roomy_lists.pth", &repeated(&grow, b"(l0", 200_000));
    // Keys of storages in a plain file.
    let mut plain = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    plain.extend([b"\x80\x02}", &text("a")[..], &tensor(1), b"s."].concat());
    plain.extend([b"\x80\x02]", &text(&"k".repeat(1000))[..], b"q\x01a", &b"h\x01a".repeat(200_000), b"."].concat());
    refused_file(folder, "plain_keys.pth", &plain);
    // Without end, and the dearest operations there are.
    assert!(refused(folder, "operations.pth", &repeated(b"", b"N0", 1 << 21)).contains("pickled values"));
    refused(folder, "memoised_lists.pth", &repeated(b"", b"]\x94", (1 << 21) - 8));

    // A storage of 64 KiB under very many names: as much memory as there are names.
    let named = |n: usize, elements: u32| {
        let mut out = [b"\x80\x02", &tensor(elements)[..], b"q\x010}("].concat();
        for i in 0..n {
            out.extend([&text(&format!("t{i}"))[..], b"h\x01"].concat());
        }
        [out, b"u.".to_vec()].concat()
    };
    assert!(refused(folder, "shared_storage.pth", &named(3000, 1 << 14)).contains("times as large as the file"));
    // The same tensor under two names is nothing unusual.
    let error = refused(folder, "tied.pth", &named(2, 1 << 14));
    assert!(error.contains("among its 2 tensors"), "{error}");
    // A dictionary of 1000 tensors under 1000 names.
    let empty = [b"\x80\x02", &tensor(0)[..], b"q\x010}("].concat();
    let keys = |value: &[u8]| (0..1000).flat_map(|i| [&text(&format!("t{i}"))[..], value].concat()).collect::<Vec<_>>();
    let nested = [&empty[..], &keys(b"h\x01"), b"uq\x020}(", &keys(b"h\x02"), b"u."].concat();
    assert!(refused(folder, "nested_names.pth", &nested).contains("more than 65536 tensors"));
    // And that many tensors one by one.
    let many = [tensor(0), b"0".to_vec()].concat();
    assert!(refused(folder, "tensors.pth", &repeated(b"", &many, 66_000)).contains("more than 65536 tensors"));
}

fn safetensors(header: serde_json::Value) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
}

#[test]
fn sizes_beyond_reason_are_errors_and_never_wrap() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("model.safetensors");
    let big = 1u64 << 62;
    let empty = |shape: &[u64]| serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [0, 0] });
    let load = || inspect(&path, &LoadOptions::default().with_heads(4)).unwrap_err();
    // Four times this width is 0 in 64 bits.
    let header = serde_json::json!({
        "patch_embed.proj.weight": empty(&[0, 3, 14, 14]), "mask_token": empty(&[0]),
        "blocks.0.norm1.weight": empty(&[big, 0]), "blocks.0.norm2.weight": empty(&[big, 0]),
    });
    fs::write(&path, safetensors(header)).unwrap();
    let error = load();
    assert!(
        matches!(&error, Error::Architecture { field: "embed_dim", value, .. } if *value == big.to_string()),
        "{error}"
    );
    // A grid and a patch whose product is beyond 64 bits, told in a message of the configuration.
    let side = 1u64 << 31;
    let header = serde_json::json!({
        "embeddings.patch_embeddings.projection.weight": empty(&[0, 3, big, big]),
        "embeddings.position_embeddings": empty(&[0, side * side + 1, 0]),
        "encoder.layer.0.norm1.weight": empty(&[48, 0]), "encoder.layer.0.norm2.weight": empty(&[48, 0]),
        "encoder.layer.0.mlp.fc1.weight": empty(&[192, 0]), "encoder.layer.0.mlp.fc2.weight": empty(&[0, 192]),
    });
    fs::write(&path, safetensors(header)).unwrap();
    let config = serde_json::json!({ "model_type": "dinov2", "hidden_size": 48, "patch_size": big });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let error = load();
    assert!(matches!(&error, Error::Config { field, .. } if field == "image_size"), "{error}");
    assert!(error.to_string().contains(&format!("expected {}, as", usize::MAX)), "{error}");
}

/// To open a pipe is to wait for someone who writes.
#[test]
#[cfg(unix)]
fn a_pipe_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["weights.pth", "model.safetensors.index.json"] {
        let path = folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || send.send(inspect(&path, &LoadOptions::default()).unwrap_err().to_string()));
        let error = receive.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(error.contains(name) && error.contains("not a regular file"), "{error}");
    }
    let error = inspect(Path::new("/dev/zero"), &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}
