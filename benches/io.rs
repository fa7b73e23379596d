//! Every reader on files of a usual size, in memory or in the page cache. Throughput is in bytes of
//! the f32 array that comes out, so that formats can be compared.
//!
//! The group `limit` is what no reader can go below: the bytes of the same files read and nothing
//! more, the gzip stream inflated and nothing more, the voxels copied.

use std::{
    fs,
    hint::black_box,
    io::{Read, Write},
    path::Path,
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dinorad::io::{ReadOptions, Volume, dicom, image, mat::MatFile, nifti, npy};
use ndarray::Array3;

const SIDE: usize = 512;
const SLICES: usize = 32;

/// Soft, noisy values of 12 bits, as a scanner makes them.
fn value(k: usize, j: usize, i: usize) -> u16 {
    let noise = (k * 7919 + j * 104_729 + i * 1_299_709) % 61;
    let body = ((i as f64 - 256.0).powi(2) / 40_000.0 + (j as f64 - 256.0).powi(2) / 22_500.0) < 1.0;
    noise as u16 + if body { 1040 + (k as u16) } else { 10 }
}

fn element(out: &mut Vec<u8>, tag: (u16, u16), vr: &[u8; 2], value: &[u8]) {
    out.extend(tag.0.to_le_bytes());
    out.extend(tag.1.to_le_bytes());
    out.extend(vr);
    let length = value.len().next_multiple_of(2);
    if vr == b"OW" {
        out.extend([0, 0]);
        out.extend((length as u32).to_le_bytes());
    } else {
        out.extend((length as u16).to_le_bytes());
    }
    out.extend(value);
    out.extend(vec![if vr == b"UI" { 0 } else { b' ' }; length - value.len()]);
}

/// A slice of a CT in explicit little endian.
fn slice(k: usize) -> Vec<u8> {
    let mut out = vec![0; 128];
    out.extend(b"DICM");
    let side = (SIDE as u16).to_le_bytes();
    let words: Vec<u8> = (0..SIDE * SIDE).flat_map(|n| value(k, n / SIDE, n % SIDE).to_le_bytes()).collect();
    let (sop, position) = (format!("1.2.3.{k}"), format!("-200\\-200\\{}", k as f64 * 2.5));
    let elements: [((u16, u16), &[u8; 2], &[u8]); 18] = [
        ((0x0002, 0x0010), b"UI", b"1.2.840.10008.1.2.1"),
        ((0x0008, 0x0018), b"UI", sop.as_bytes()),
        ((0x0008, 0x0060), b"CS", b"CT"),
        ((0x0020, 0x000E), b"UI", b"1.2.3"),
        ((0x0020, 0x0032), b"DS", position.as_bytes()),
        ((0x0020, 0x0037), b"DS", b"1\\0\\0\\0\\1\\0"),
        ((0x0028, 0x0002), b"US", &[1, 0]),
        ((0x0028, 0x0004), b"CS", b"MONOCHROME2"),
        ((0x0028, 0x0010), b"US", &side),
        ((0x0028, 0x0011), b"US", &side),
        ((0x0028, 0x0030), b"DS", b"0.8\\0.8"),
        ((0x0028, 0x0100), b"US", &[16, 0]),
        ((0x0028, 0x0101), b"US", &[12, 0]),
        ((0x0028, 0x0102), b"US", &[11, 0]),
        ((0x0028, 0x0103), b"US", &[0, 0]),
        ((0x0028, 0x1052), b"DS", b"-1024"),
        ((0x0028, 0x1053), b"DS", b"1"),
        ((0x7FE0, 0x0010), b"OW", &words),
    ];
    for (tag, vr, value) in elements {
        element(&mut out, tag, vr, value);
    }
    out
}

fn volumes(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let series = folder.path().join("series");
    fs::create_dir(&series).expect("a folder for slices");
    for k in 0..SLICES {
        fs::write(series.join(format!("{k}.dcm")), slice(k)).expect("a slice");
    }
    let options = ReadOptions::default();
    let (volume, _) = dicom::read_series(&series, &options).expect("the made series is sound");
    let volume = Volume::new(volume.data, volume.affine);
    let (plain, packed) = (folder.path().join("volume.nii"), folder.path().join("volume.nii.gz"));
    nifti::write_volume(&plain, &volume).expect("a volume");
    nifti::write_volume(&packed, &volume).expect("a volume");

    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Bytes(volume.data.len() as u64 * 4)).sample_size(20);
    let id = |name: &str| BenchmarkId::new(name, format!("{SLICES}x{SIDE}x{SIDE}"));
    group.bench_function(id("dicom series"), |b| b.iter(|| dicom::read_series(black_box(&series), &options)));
    group.bench_function(id("nii"), |b| b.iter(|| nifti::read(black_box(&plain), &options)));
    group.bench_function(id("nii.gz"), |b| b.iter(|| nifti::read(black_box(&packed), &options)));
    group.bench_function(id("nii.gz, middle slice"), |b| {
        b.iter(|| nifti::read_slice(black_box(&packed), SLICES / 2, &options))
    });
    group.bench_function(id("to canonical"), |b| b.iter(|| black_box(&volume).to_canonical()));
    group.finish();

    let mut group = c.benchmark_group("limit");
    group.throughput(Throughput::Bytes(volume.data.len() as u64 * 4)).sample_size(20);
    let slices: Vec<_> = (0..SLICES).map(|k| series.join(format!("{k}.dcm"))).collect();
    group.bench_function(id("dicom series, bytes"), |b| {
        b.iter(|| black_box(&slices).iter().map(|p| fs::read(p).map_or(0, |bytes| bytes.len())).sum::<usize>())
    });
    group.bench_function(id("nii, bytes"), |b| b.iter(|| fs::read(black_box(&plain))));
    let stream = fs::read(&packed).expect("a volume");
    let mut room = Vec::with_capacity(volume.data.len() * 4 + 352);
    group.bench_function(id("nii.gz, inflated"), |b| {
        b.iter(|| {
            room.clear();
            flate2::read::GzDecoder::new(black_box(stream.as_slice())).read_to_end(&mut room)
        })
    });
    group.bench_function(id("voxels, copied"), |b| b.iter(|| black_box(&volume).data.clone()));
}

fn npz(path: &Path, npy: &[u8]) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).expect("a scratch file"));
    let deflated = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    zip.start_file("images.npy", deflated).and_then(|()| Ok(zip.write_all(npy)?)).expect("a member");
    zip.finish().expect("a zip");
}

fn pictures(c: &mut Criterion) {
    use ::image::{DynamicImage, ImageBuffer, ImageFormat, Luma};
    let folder = tempfile::tempdir().expect("a scratch folder");
    let options = ReadOptions::default();
    let gray = Array3::from_shape_fn((1, SIDE, SIDE), |(_, y, x)| value(0, y, x));
    let words: Vec<u16> = gray.iter().map(|v| v * 32).collect();
    let bytes: Vec<u8> = gray.iter().map(|v| (v / 5) as u8).collect();
    let side = SIDE as u32;
    let deep = DynamicImage::ImageLuma16(
        ImageBuffer::<Luma<u16>, _>::from_raw(side, side, words.clone()).expect("as many values as pixels"),
    );
    let flat = DynamicImage::ImageLuma8(ImageBuffer::from_raw(side, side, bytes).expect("as many values as pixels"));
    let encoded = |image: &DynamicImage, format| {
        let mut out = std::io::Cursor::new(Vec::new());
        image.write_to(&mut out, format).expect("an encoder");
        out.into_inner()
    };
    let mut tiff = std::io::Cursor::new(Vec::new());
    tiff::encoder::TiffEncoder::new(&mut tiff)
        .map(|e| e.with_compression(tiff::encoder::Compression::Lzw))
        .and_then(|mut e| e.write_image::<tiff::encoder::colortype::Gray16>(side, side, &words))
        .expect("an encoder");
    let files = [
        ("png, 16 bits", encoded(&deep, ImageFormat::Png)),
        ("png, 8 bits", encoded(&flat, ImageFormat::Png)),
        ("jpeg", encoded(&flat, ImageFormat::Jpeg)),
        ("tiff, 16 bits, lzw", tiff.into_inner()),
    ];
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Bytes((SIDE * SIDE * 4) as u64));
    let id = |name: &str| BenchmarkId::new(name, format!("{SIDE}x{SIDE}"));
    for (name, bytes) in &files {
        group.bench_function(id(name), |b| b.iter(|| image::read_bytes(black_box(bytes), "made".as_ref(), &options)));
    }

    let one = slice(0);
    group.bench_function(id("dicom"), |b| {
        b.iter(|| dicom::read_bytes(black_box(&one).clone(), "made".as_ref(), &options))
    });
    let mut array = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let header = format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({SIDE}, {SIDE}), }}");
    array.extend(format!("{header:<117}\n").into_bytes());
    array.extend(words.iter().flat_map(|v| v.to_le_bytes()));
    let packed = folder.path().join("images.npz");
    npz(&packed, &array);
    group.bench_function(id("npy"), |b| {
        b.iter(|| npy::read_bytes(black_box(&array), "made".as_ref(), &options).map(|a| a.to_f32()))
    });
    group.bench_function(id("npz"), |b| {
        b.iter(|| npy::read_npz_array(black_box(&packed), "images", &options).map(|a| a.to_f32()))
    });
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/io/mat/files/size_512.mat");
    group.bench_function(id("mat"), |b| {
        b.iter(|| {
            let file = MatFile::open(black_box(&golden), &options)?;
            file.matrix("cjdata/image").map(|a| a.to_f32())
        })
    });
}

criterion_group!(benches, volumes, pictures);
criterion_main!(benches);
