//! `dinorad pretrain` and `dinorad distill` from files to an encoder that other commands take.

#[allow(dead_code, reason = "each test crate uses its part")]
mod common;

use std::fs;

use common::{Desk, SMALL, binary};

const TINY: &str = "--batch-size 4 --checkpoint-every 2 --workers 2";

#[test]
fn an_encoder_learns_from_pictures_and_a_smaller_one_from_it() {
    let desk = Desk::new();
    binary(&desk, "xrays", [24, 12, 16], ["well", "sick"]);
    // without the table, which is no image
    fs::create_dir(desk.path("pictures")).unwrap();
    for entry in fs::read_dir(desk.path("xrays")).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|ending| ending == "png") {
            fs::copy(entry.path(), desk.path("pictures").join(entry.file_name())).unwrap();
        }
    }
    let views = "--image-size 56 --local-size 28 --local-crops 2 --full-size-from 0.5 --prototypes 64 --hidden 32";
    let judge = "--judge csv --judge-root xrays/table.csv --judge-every 2";
    let learn =
        |out: &str| format!("pretrain pictures --modality xray --mirror {views} {TINY} --steps 4 {judge} -o {out}");
    let plan = desk.run(&format!("{} --plan", learn("planned")), &[], 0);
    assert!(plan.stderr.contains("4 steps of 4 from 52 slices") && plan.stderr.contains("GiB"), "{}", plan.stderr);
    assert!(!desk.path("planned/encoder").exists());

    let said = desk.run(&learn("learned"), &[], 0);
    assert!(said.stdout.contains("in 4 steps") && said.stdout.contains("after 4 steps: kNN"), "{}", said.stdout);
    for name in ["config.json", "model.safetensors", "preprocessor_config.json"] {
        assert!(desk.path("learned/encoder").join(name).is_file(), "{name}");
    }
    // the same again: nothing is left to do, and another seed is another training
    desk.run(&learn("learned"), &[], 0);
    desk.run(&format!("{} --seed 1", learn("learned")), &[], 2).names(&["another training"]);
    // two workers or none, the same bytes
    desk.run(&learn("alone").replace("--workers 2", "--workers 1"), &[], 0);
    let bytes = |of: &str| fs::read(desk.path(of).join("encoder/model.safetensors")).unwrap();
    assert!(bytes("learned") == bytes("alone"));
    // what was learned is an encoder as any other
    let eval = format!(
        "eval knn --dataset csv --root xrays/table.csv --backbone learned/encoder {SMALL} --k 1,5 --no-controls"
    );
    desk.run(&format!("{eval} -o knn"), &[], 0);
    // without centring it is stopped, and the monitor is named
    let off = "--centring off --steps 400 --momentum 0.8 --lr 0.01 --image-size 28 --local-size 14 --local-crops 1 \
               --prototypes 64 --hidden 32 --batch-size 8";
    desk.run(&format!("pretrain pictures {off} -o dead"), &[], 2).names(&["collapsed"]);

    let teach =
        format!("distill pictures --teacher learned/encoder --grid 4 --views 2 --steps 4 {TINY} {judge} -o taught");
    let said = desk.run(&teach, &[], 0);
    assert!(said.stdout.contains("in 4 steps"), "{}", said.stdout);
    assert!(desk.path("taught/encoder/model.safetensors").is_file());
    assert_eq!(fs::metadata(desk.path("taught/teacher/teacher.f16")).unwrap().len(), 52 * 2 * 17 * 192 * 2);
    desk.run("pretrain nothing -o x", &[], 2).names(&["nothing"]);
}
