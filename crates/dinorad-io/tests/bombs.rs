//! Small files that ask for much memory get an error, and not the memory.
//!
//! Two kinds of each container: one that declares more than it holds, and a real bomb, whose stream
//! does hold it. The process's peak is watched while they are read. `tests/data/bombs/make.py` made
//! the HDF5 files.

mod support;

use std::{
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
};

use dinorad_io::{
    Error, Limits, ReadOptions, dicom, image, inspect_with, mat::MatFile, nifti, npy, read_volume, read_with,
};
use support::{element, file};

const MIB: u64 = 1 << 20;
/// What the readers are allowed.
const ALLOWED: u64 = 4 * MIB;
/// What the bombs hold.
const BOMB: usize = 128 << 20;
/// What a refusal may take beside: buffers, the file itself, a decoder's tables.
const BESIDE: u64 = 24 * MIB;

fn options() -> ReadOptions {
    ReadOptions::default().with_limits(Limits::default().with_voxel_bytes(ALLOWED).with_file_bytes(ALLOWED))
}

/// Bytes that the process has had at most since the last call, and has now.
#[cfg(target_os = "linux")]
fn peak_and_now() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    let out = (field("VmHWM:"), field("VmRSS:"));
    fs::write("/proc/self/clear_refs", "5").unwrap();
    out
}

#[cfg(not(target_os = "linux"))]
fn peak_and_now() -> (u64, u64) {
    (0, 0)
}

/// Reads, and checks what it took.
fn bounded<T>(what: &str, read: impl FnOnce() -> T) -> T {
    let (_, before) = peak_and_now();
    let start = std::time::Instant::now();
    let out = read();
    let seconds = start.elapsed().as_secs_f64();
    let (peak, _) = peak_and_now();
    let grown = peak.saturating_sub(before);
    println!("{what:<40} {:>4} KiB, {seconds:.2} s", grown >> 10);
    assert!(grown < ALLOWED + BESIDE, "{what} took {} MiB", grown / MIB);
    assert!(seconds < 20.0, "{what} took {seconds} s");
    out
}

#[track_caller]
fn refused<T: std::fmt::Debug>(what: &str, result: Result<T, Error>) {
    match result {
        Err(Error::Limit { .. } | Error::Damaged { .. } | Error::Unsupported { .. }) => {}
        Err(e) => panic!("{what}: {e:?}"),
        Ok(_) => panic!("{what} was read"),
    }
}

fn zeros(mut to: impl Write, bytes: usize) {
    let block = vec![0u8; 1 << 20];
    for _ in 0..bytes >> 20 {
        to.write_all(&block).unwrap();
    }
}

fn gzip(head: &[u8], bytes: usize) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(head).unwrap();
    zeros(&mut packer, bytes);
    packer.finish().unwrap()
}

fn zlib(head: &[u8], bytes: usize) -> Vec<u8> {
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(head).unwrap();
    zeros(&mut packer, bytes);
    packer.finish().unwrap()
}

fn npy_header(shape: &str) -> Vec<u8> {
    let mut text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
    while !(text.len() + 11).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    [&b"\x93NUMPY\x01\x00"[..], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat()
}

fn npz(name: &str, head: &[u8], bytes: usize) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    zip.start_file(name, options).unwrap();
    zip.write_all(head).unwrap();
    zeros(&mut zip, bytes);
    zip.finish().unwrap().into_inner()
}

fn nifti_header(dims: [i16; 3], vox_offset: f32) -> Vec<u8> {
    let mut out = vec![0u8; 352];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348i32.to_le_bytes());
    for (n, d) in [3, dims[0], dims[1], dims[2], 1, 1, 1, 1].iter().enumerate() {
        put(40 + 2 * n, &d.to_le_bytes());
    }
    put(70, &2i16.to_le_bytes());
    put(72, &8i16.to_le_bytes());
    for n in 0..8 {
        put(76 + 4 * n, &1f32.to_le_bytes());
    }
    put(108, &vox_offset.to_le_bytes());
    put(344, b"n+1\0");
    out
}

fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc.sum().to_be_bytes()].concat()
}

fn png(w: u32, h: u32, before: &[Vec<u8>], pixels: &[u8]) -> Vec<u8> {
    let mut header = [w.to_be_bytes(), h.to_be_bytes()].concat();
    header.extend([8, 0, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    out.extend(png_chunk(b"IHDR", &header));
    before.iter().for_each(|c| out.extend(c));
    out.extend(png_chunk(b"IDAT", pixels));
    out.extend(png_chunk(b"IEND", b""));
    out
}

/// A TIFF of one strip: `(tag, type, count, value)` in order.
fn tiff(w: u32, h: u32, compression: u32, strip: &[u8], next: u32, extra: &[(u16, u16, u32, u32)]) -> Vec<u8> {
    let mut entries = vec![
        (256u16, 4u16, 1u32, w),
        (257, 4, 1, h),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, 0),
        (277, 3, 1, 1),
        (278, 4, 1, h),
        (279, 4, 1, strip.len() as u32),
    ];
    entries.extend(extra);
    entries.sort();
    let data_at = 8 + 2 + 12 * entries.len() as u32 + 4;
    let mut out = b"II\x2a\0\x08\0\0\0".to_vec();
    out.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend(if tag == 273 { data_at } else { value }.to_le_bytes());
    }
    out.extend(next.to_le_bytes());
    out.extend(strip);
    out
}

/// A one-frame image whose pixels are `pixels`: a whole element, encapsulated or not.
fn dicom_set(rows: u16, columns: u16, frames: &str, pixels: &[u8]) -> Vec<u8> {
    let us = |v: u16| v.to_le_bytes();
    [
        element(0x0008_0060, b"CS", b"CT"),
        element(0x0028_0002, b"US", &us(1)),
        element(0x0028_0004, b"CS", b"MONOCHROME2 "),
        element(0x0028_0008, b"IS", frames.as_bytes()),
        element(0x0028_0010, b"US", &us(rows)),
        element(0x0028_0011, b"US", &us(columns)),
        element(0x0028_0100, b"US", &us(8)),
        element(0x0028_0101, b"US", &us(8)),
        element(0x0028_0102, b"US", &us(7)),
        element(0x0028_0103, b"US", &us(0)),
        pixels.to_vec(),
    ]
    .concat()
}

fn encapsulated(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.resize(frame.len().next_multiple_of(2), 0);
    let mut out = vec![0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    out.extend([0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0x00, 0xE0]);
    out.extend((frame.len() as u32).to_le_bytes());
    out.extend(&frame);
    out.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    out
}

/// One test: the peak is that of the whole process.
#[test]
fn small_files_that_ask_for_much() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        assert!(bytes.len() < 1 << 20, "{name} is no small file");
        path
    };
    let read = |what: &str, path: &Path| {
        refused(what, bounded(what, || read_with(path, &options())));
        // and whatever looks at it without its pixels
        let _ = bounded(&format!("{what}, inspected"), || inspect_with(path, true, &options()));
    };

    // npy, npz
    let path = write("claims.npy", &npy_header("(4000000000,)"));
    read("npy that claims 4 GB", &path);
    let path = write("claims.npz", &npz("a.npy", &npy_header("(4000000000,)"), 0));
    read("npz that claims 4 GB", &path);
    let path = write("bomb.npz", &npz("a.npy", &npy_header(&format!("({BOMB},)")), BOMB));
    read("npz that holds it", &path);
    let path = write("tail.npz", &npz("a.npy", &npy_header("(16,)"), BOMB));
    let tail = bounded("npz with a tail", || npy::read_npz_array(&path, "a", &options()));
    assert!(tail.is_ok_and(|a| a.shape() == [16]), "as NumPy reads it");
    let path = write("header.npz", &npz("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{", BOMB));
    read("npz with an endless header", &path);

    // NIfTI
    let path = write("claims.nii", &nifti_header([30000, 30000, 4], 352.0));
    read("NIfTI that claims 4 GB", &path);
    let path = write("claims.nii.gz", &gzip(&nifti_header([30000, 30000, 4], 352.0), 0));
    read("NIfTI in gzip that claims 4 GB", &path);
    let path = write("bomb.nii.gz", &gzip(&nifti_header([512, 512, 512], 352.0), BOMB));
    read("NIfTI in gzip that holds it", &path);
    let far = gzip(&nifti_header([4, 4, 4], (BOMB - 1024) as f32), BOMB);
    let path = write("far.nii.gz", &far);
    let far = bounded("NIfTI whose voxels lie far", || nifti::read(&path, &options()));
    assert!(far.is_ok_and(|v| v.data.len() == 64), "skipped, not stored");
    let _ = bounded("its free text", || inspect_with(&path, true, &options()));

    // NRRD, MetaImage, MGH
    let nrrd = |sizes: &str, more: &str| {
        format!("NRRD0004\ntype: uchar\ndimension: 3\nsizes: {sizes}\nspacings: 1 1 1\n{more}\n\n").into_bytes()
    };
    let path = write("claims.nrrd", &nrrd("30000 30000 4", "encoding: raw"));
    read("NRRD that claims 4 GB", &path);
    let bomb = [nrrd("512 512 512", "encoding: gzip"), gzip(&[], BOMB)].concat();
    let path = write("bomb.nrrd", &bomb);
    read("NRRD that holds it", &path);
    let far = [nrrd("4 4 4", &format!("encoding: gzip\nbyte skip: {}", BOMB - 1024)), gzip(&[], BOMB)].concat();
    let path = write("far.nrrd", &far);
    let far = bounded("NRRD whose voxels lie far", || read_volume(&path, &options()));
    assert!(far.is_ok_and(|v| v.data.len() == 64), "skipped, not stored");
    let wide = [nrrd("1000000000000 512 512", "kinds: list domain domain\nencoding: gzip"), gzip(&[], BOMB)].concat();
    let path = write("wide.nrrd", &wide);
    let many = bounded("NRRD of very many volumes", || read_with(&path, &options()));
    assert!(matches!(many, Err(Error::SeveralVolumes { volumes: 1_000_000_000_000, .. })), "{many:?}");
    let first = options().with_volume(0);
    refused("the first of them", bounded("the first of them", || read_volume(&path, &first)));
    let mha = |size: &str| {
        format!("NDims = 3\nDimSize = {size}\nElementSpacing = 1 1 1\nElementType = MET_UCHAR\nCompressedData = True\nElementDataFile = LOCAL\n")
            .into_bytes()
    };
    let path = write("claims.mha", &[mha("30000 30000 4"), zlib(&[], 0)].concat());
    read("MetaImage that claims 4 GB", &path);
    let path = write("bomb.mha", &[mha("512 512 512"), zlib(&[], BOMB)].concat());
    read("MetaImage that holds it", &path);
    let path = write(
        "line.mha",
        &[b"NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n".to_vec(), b"=a".repeat(400_000)].concat(),
    );
    read("MetaImage with an endless line", &path);
    let mgh = |sizes: [i32; 4]| {
        let mut out = 1i32.to_be_bytes().to_vec();
        sizes.iter().for_each(|s| out.extend(s.to_be_bytes()));
        out.resize(284, 0);
        out
    };
    let path = write("claims.mgh", &mgh([30_000, 30_000, 4, 1]));
    read("MGH that claims 4 GB", &path);
    let path = write("bomb.mgz", &gzip(&mgh([512, 512, 512, 1]), BOMB));
    read("MGH in gzip that holds it", &path);

    // PNG
    let path = write("claims.png", &png(40_000, 40_000, &[], &zlib(&[], 0)));
    read("PNG that claims 40,000 x 40,000", &path);
    let path = write("bomb.png", &png(16_384, 8_191, &[], &zlib(&[], BOMB)));
    read("PNG that holds it", &path);
    let one = |chunk: Vec<u8>| png(1, 1, &[chunk], &zlib(&[0, 9], 0));
    for (name, chunk) in [
        ("profile", png_chunk(b"iCCP", &[b"x\0\0", zlib(&[], BOMB).as_slice()].concat())),
        ("text", png_chunk(b"zTXt", &[b"x\0\0", zlib(&[], BOMB).as_slice()].concat())),
        ("words", png_chunk(b"iTXt", &[b"x\0\x01\0\0\0", zlib(&[], BOMB).as_slice()].concat())),
    ] {
        let bytes = one(chunk);
        let path = write(&format!("{name}.png"), &bytes);
        let _ = bounded(&format!("PNG with a {name} that inflates"), || image::read_with(&path, &options()));
    }
    let path = write("tail.png", &png(1, 1, &[], &zlib(&[0, 9], BOMB)));
    let _ = bounded("PNG of one pixel and much behind it", || image::read_with(&path, &options()));

    // JPEG
    let jpeg = [
        &b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xdc\xff\xdc\x01\x01\x11\x00"[..],
        b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\xff\xd9",
    ]
    .concat();
    let path = write("claims.jpg", &jpeg);
    read("JPEG that claims 65,500 x 65,500", &path);

    // TIFF
    let path = write("claims.tif", &tiff(40_000, 40_000, 1, &[0; 16], 0, &[]));
    read("TIFF that claims 40,000 x 40,000", &path);
    let path = write("bomb.tif", &tiff(16_384, 8_192, 8, &zlib(&[], BOMB), 0, &[]));
    read("TIFF that holds it", &path);
    let path = write("tail.tif", &tiff(4, 4, 8, &zlib(&[], BOMB), 0, &[]));
    let _ = bounded("TIFF of 16 pixels and much behind them", || image::read_with(&path, &options()));
    let path = write("tags.tif", &tiff(4, 4, 1, &[0; 16], 0, &[(338, 3, u32::MAX, 8)]));
    let _ = bounded("TIFF with four billion values of a tag", || image::read_with(&path, &options()));
    // as many values as the decoder's own limit lets through before it is told of ours
    let path = write("values.tif", &tiff(4, 4, 1, &[0; 16], 0, &[(282, 1, 8_000_000, 8)]));
    read("TIFF with eight million values of a tag", &path);
    let path = write("circle.tif", &tiff(4, 4, 1, &[0; 16], 8, &[(254, 4, 1, 1)]));
    let _ = bounded("TIFF whose next page is itself", || image::read_with(&path, &options()));

    // DICOM
    let deflated = |set: &[u8], bytes: usize| {
        let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(set).unwrap();
        zeros(&mut packer, bytes);
        file("1.2.840.10008.1.2.1.99", &packer.finish().unwrap())
    };
    let mut long = dicom_set(16_384, 8_192, "1 ", &[]);
    long.extend([0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0]);
    long.extend((BOMB as u32).to_le_bytes());
    let path = write("bomb.dcm", &deflated(&long, BOMB));
    read("DICOM whose data set inflates", &path);
    let path = write("bomb.dcm.gz", &gzip(&file("1.2.840.10008.1.2.1", &long), BOMB));
    read("DICOM in gzip that holds it", &path);
    let path = folder.path().join("bomb.dcm");
    let _ = bounded("its patient", || dicom::hash_patient(&path, &options(), str::len));
    let _ = bounded("its series", || dicom::find_series(folder.path(), &options()));
    let plain = dicom_set(2, 2, "1 ", &element(0x7FE0_0010, b"OB", &[1, 2, 3, 4]));
    let path = write("tail.dcm", &deflated(&plain, BOMB));
    read("DICOM of 4 pixels with a tail that inflates", &path);
    let native = element(0x7FE0_0010, b"OB", &[1, 2, 3, 4]);
    for (name, rows, columns, frames) in [("rows", 65_534, 65_534, "1 "), ("frames", 2, 2, "2000000000")] {
        let path =
            write(&format!("{name}.dcm"), &file("1.2.840.10008.1.2.1", &dicom_set(rows, columns, frames, &native)));
        read(&format!("DICOM that claims {name}"), &path);
    }
    // codestreams that claim more than the header does
    let j2k = [
        &b"\xff\x4f\xff\x51\x00\x29\x00\x00"[..],
        &60_000u32.to_be_bytes(),
        &60_000u32.to_be_bytes(),
        &[0; 8],
        &60_000u32.to_be_bytes(),
        &60_000u32.to_be_bytes(),
        &[0; 8],
        b"\x00\x01\x07\x01\x01",
        b"\xff\x52\x00\x0c\x00\x00\x00\x01\x00\x00\x04\x04\x00\x01",
        b"\xff\x5c\x00\x04\x40\x40",
        b"\xff\x90\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x01\xff\x93\xff\xd9",
    ]
    .concat();
    let jls = [
        &b"\xff\xd8\xff\xf7\x00\x0b\x08\xff\xdc\xff\xdc\x01\x01\x11\x00"[..],
        b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00\x00\x00\x00\xff\xd9",
    ]
    .concat();
    let rle: Vec<u8> =
        [1u32, 64].iter().flat_map(|v| v.to_le_bytes()).chain([0; 56]).chain([0x81, 0].repeat(500)).collect();
    let streams = [
        ("JPEG 2000", "1.2.840.10008.1.2.4.90", j2k),
        ("JPEG-LS", "1.2.840.10008.1.2.4.80", jls),
        ("JPEG", "1.2.840.10008.1.2.4.50", jpeg),
        ("RLE", "1.2.840.10008.1.2.5", rle),
    ];
    for (name, syntax, stream) in streams {
        let path = write("stream.dcm", &file(syntax, &dicom_set(4, 4, "1 ", &encapsulated(&stream))));
        let read = bounded(&format!("{name} larger than its header"), || read_with(&path, &options()));
        // RLE has no size of its own: what is too much is left
        assert_eq!(read.is_err(), name != "RLE", "{name}: {read:?}");
    }

    // HDF5
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bombs");
    for (name, what) in [
        ("wide.mat", "HDF5 that holds 64 MiB"),
        ("chunk.mat", "HDF5 with a chunk for 64 MiB"),
        ("stream.mat", "HDF5 whose chunk inflates"),
        ("twice.mat", "HDF5 whose chunk inflates twice"),
    ] {
        let path = data.join(name);
        refused(what, bounded(what, || MatFile::open(&path, &options()).and_then(|f| f.array("image"))));
        read(what, &path);
    }
}
