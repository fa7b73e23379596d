//! What pre-training needs of files: slices decoded once, batches ahead of time.

use std::{fs, sync::Arc};

use dinorad_backbone::{Backbone, Dinov2, Dinov2Config};
use dinorad_core::Silent;
use dinorad_eval::{
    Cases, Prepared, Settings,
    pretraining::{Ahead, SliceStore},
    store::ItemKey,
};
use dinorad_pretrain::{Feed, HeadConfig, Images, Views};
use dinorad_transforms::Compose;
use ndarray::Array3;

/// A volume, an image that cannot be read, an image, and one without content.
struct Four;

fn ramp(k: usize) -> Array3<f32> {
    Array3::from_shape_fn((1, 40, 60), |(_, y, x)| (y * x + k) as f32 - 1000.0)
}

impl Cases for Four {
    fn settings(&self) -> Settings {
        Settings::new(Compose::default())
    }

    fn len(&self) -> usize {
        4
    }

    fn key(&self, i: usize) -> ItemKey {
        ItemKey::new(format!("case {i}"), [i as u8; 32])
    }

    fn load(&self, i: usize) -> Result<Prepared, String> {
        let slices = match i {
            0 => (0..3).map(ramp).collect(),
            1 => return Err("a hole in it".into()),
            2 => vec![ramp(9)],
            _ => vec![Array3::zeros((1, 8, 8))],
        };
        Ok(Prepared { slices, ..Prepared::default() })
    }
}

#[test]
fn slices_come_back_in_order_and_are_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let make = |most| SliceStore::make(folder.path(), Arc::new(Four), most, &Silent).unwrap();
    let store = make(100);
    assert_eq!((Images::len(&store), store.empty(), store.failures().len()), (4, 1, 1));
    assert_eq!(store.failures()[0].id, "case 1");
    for (i, k) in [(3, 9), (0, 0), (2, 2)] {
        let worst = (store.image(i).unwrap() - ramp(k)).iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(worst < 0.05, "{worst}");
    }
    assert!(store.image(4).is_err());
    let path = folder.path().join("slices.u16");
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    let again = make(100);
    assert_eq!(again.identity(), store.identity());
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
    let small = make(20);
    assert_ne!(small.identity(), store.identity());
    assert_eq!(small.image(0).unwrap().dim(), (1, 20, 30));
}

#[test]
fn steps_come_in_order_from_anywhere() {
    for threads in [1, 3] {
        let mut ahead = Ahead::new(20, threads, |step| {
            std::thread::sleep(std::time::Duration::from_micros(((step * 7) % 5) as u64 * 100));
            Ok(step * step)
        });
        for step in [0, 1, 2, 7, 8, 3, 19, 20] {
            assert_eq!(ahead.get(step).unwrap(), step * step);
        }
    }
}

#[test]
fn workers_change_no_byte_of_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Images> = Arc::new(SliceStore::make(folder.path(), Arc::new(Four), 100, &Silent).unwrap());
    let settings = dinorad_pretrain::Settings {
        steps: 6,
        batch_size: 3,
        views: Views { local: 2, global_size: 28, local_size: 14, ..Views::default() },
        head: HeadConfig { prototypes: 16, ..HeadConfig::default() },
        ..dinorad_pretrain::Settings::default()
    };
    let encoder = Dinov2::untrained(&Dinov2Config::tiny(), 0, &candle::Device::Cpu).unwrap();
    let all = |workers: usize| -> Vec<(Vec<usize>, Vec<f32>)> {
        let feed = Feed::new(Arc::clone(&store), &settings, encoder.spec()).unwrap();
        let mut ahead = Ahead::new(6, workers, move |step| feed.batch(step));
        let batch = |step| {
            let batch = ahead.get(step).unwrap();
            (batch.images, batch.global.flatten_all().unwrap().to_vec1().unwrap())
        };
        (0..6).map(batch).collect()
    };
    assert!(all(1) == all(2));
}
