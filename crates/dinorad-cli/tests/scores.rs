//! The numbers on the screen and on the page are those of `metrics.json`, and those follow from
//! `predictions.csv` by counting pairs.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::fs;

use common::Desk;
use serde_json::Value;

/// A folder with a table of noisy stripes, two pictures a patient, `val` and `test` large enough for
/// scores that differ.
fn pictures(desk: &Desk) {
    fs::create_dir_all(desk.path("films")).unwrap();
    let mut text = String::from("path,label,split,patient\n");
    for i in 0..120u32 {
        let (split, class) = (["train", "val", "test"][(i / 2 % 3) as usize], i / 6 % 2);
        let picture = image::GrayImage::from_fn(28, 28, |x, y| {
            let mixed = (x + 31 * y + 997 * i + 1).wrapping_mul(0x9E37_79B9);
            let noise = (mixed ^ (mixed >> 15)).wrapping_mul(0x85EB_CA6B) >> 24;
            // every fifth picture looks like the other class
            let looks = if i % 5 == 0 { 1 - class } else { class };
            let stripe = if looks == 1 { x / 4 % 2 } else { y / 4 % 2 };
            image::Luma([(stripe * 60 + noise * 195 / 255) as u8])
        });
        picture.save(desk.path(format!("films/{i:03}.png"))).unwrap();
        text += &format!("{i:03}.png,{},{split},p{}\n", ["well", "sick"][class as usize], i / 2);
    }
    fs::write(desk.path("films/table.csv"), text).unwrap();
}

fn three(v: &Value) -> String {
    format!("{:.3}", v.as_f64().unwrap())
}

fn with_ends(v: &Value) -> String {
    format!("{} ({}–{})", three(&v["mean"]), three(&v["ci95"][0]), three(&v["ci95"][1]))
}

/// The cells of a line of a table: what two blanks or more part.
fn cells(line: &str) -> Vec<String> {
    line.split("  ").map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_screen_and_the_page_say_what_metrics_json_says() {
    let desk = Desk::new();
    pictures(&desk);
    let said = desk.run(
        "eval knn --dataset csv --root films/table.csv --image-size 28 --bootstrap 200 --features features \
         --k 1,5,20 --no-controls --out run",
        &[],
        0,
    );
    let json: Value = serde_json::from_slice(&fs::read(desk.path("run/metrics.json")).unwrap()).unwrap();
    let (val, test) = (&json["metrics"]["val"], &json["metrics"]["test"]);

    // the screen
    let mut lines = said.stdout.lines().skip_while(|l| !l.contains("val AUROC"));
    let head = cells(lines.next().unwrap());
    assert_eq!(head[..4], ["setting", "val AUROC", "test AUROC (95 % CI)", "test accuracy (95 % CI)"]);
    let rows: Vec<Vec<String>> = lines.map(cells).filter(|c| c.len() >= 4).take(3).collect();
    for (row, k) in rows.iter().zip([1, 5, 20]) {
        assert!(row[0].contains(&k.to_string()), "{row:?}");
        let [val_auroc, auroc, accuracy] = [
            three(&val[format!("auroc_k{k}")]["mean"]),
            with_ends(&test[format!("auroc_k{k}")]),
            with_ends(&test[format!("accuracy_k{k}")]),
        ];
        assert!(auroc != accuracy && !auroc.starts_with(&val_auroc), "columns that are equal show no swap: {row:?}");
        assert_eq!(row[1..4], [val_auroc, auroc, accuracy]);
    }
    assert_eq!(rows.len(), 3, "{}", said.stdout);

    // the page
    let html = fs::read_to_string(desk.path("run/report.html")).unwrap();
    let plain = |text: &str| text.replace("&#39;", "'").replace('\u{202f}', "").trim().to_owned();
    let on_page: Vec<Vec<String>> = html
        .split("<tr>")
        .skip(1)
        .map(|row| {
            row.split("</tr>")
                .next()
                .unwrap()
                .split("<td")
                .skip(1)
                .map(|c| plain(c.split_once('>').unwrap().1.split("</td>").next().unwrap()))
                .collect()
        })
        .collect();
    for (title, name) in [
        ("AUROC", "auroc"),
        ("accuracy", "accuracy"),
        ("average precision", "average_precision"),
        ("sensitivity", "sensitivity"),
        ("specificity", "specificity"),
        ("F1", "f1"),
        ("Cohen's kappa", "kappa"),
        ("Brier score", "brier"),
    ] {
        let ends = format!("{} – {}", three(&test[name]["ci95"][0]), three(&test[name]["ci95"][1]));
        let row = on_page.iter().filter(|r| r.first().is_some_and(|c| c == title)).find(|r| r.len() == 5);
        let row = row.unwrap_or_else(|| panic!("no row `{title}` on the page"));
        assert_eq!(row[1..4], [three(&test[name]["mean"]), ends, "40".to_owned()], "{title}");
    }

    // the predictions, counted
    let table = fs::read_to_string(desk.path("run/predictions.csv")).unwrap();
    let cases: Vec<(bool, f64)> = table
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            (cells[1] == "1", cells[3].parse().unwrap())
        })
        .collect();
    assert_eq!((cases.len() as f64, json["cases"]["test"]["n"].as_f64().unwrap()), (40.0, 40.0));
    let (mut right, mut pairs, mut won) = (0.0, 0.0, 0.0);
    for (truth, p) in &cases {
        right += f64::from(u8::from(*truth == (*p > 0.5)));
        for (_, other) in cases.iter().filter(|(other, _)| *truth && !other) {
            pairs += 1.0;
            won += if p > other {
                1.0
            } else if p == other {
                0.5
            } else {
                0.0
            };
        }
    }
    assert!((test["auroc"]["mean"].as_f64().unwrap() - won / pairs).abs() < 1e-9);
    assert!((test["accuracy"]["mean"].as_f64().unwrap() - right / 40.0).abs() < 1e-9);
    assert!(json["convention"].as_str().unwrap().contains("over patients"), "{}", json["convention"]);
}
