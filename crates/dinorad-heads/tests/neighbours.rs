//! Nearest-neighbour heads: their refusals and what they give besides golden numbers.

use dinorad_heads::{Error, Fit, Knn, Predict, Targets, Vote};
use ndarray::{Array2, array};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn gallery() -> Array2<f32> {
    array![[1f32, 0.0], [1.0, 0.1], [0.0, 2.0], [0.1, 3.0]]
}

#[test]
fn findings_vote_too() -> Outcome {
    let y = Targets::findings(array![[1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0]])?;
    let model = Knn::new(&[2, 4]).with_vote(Vote::Renormalised).fit(gallery().view(), &y)?;
    let query = array![[3f32, 0.0]];
    let votes = model.votes(query.view())?;
    assert!((votes[0][[0, 0]] - 1.0).abs() < 1e-6 && votes[0][[0, 1]] == 0.0);
    assert!(votes[0][[0, 2]] > 0.5 && votes[0][[0, 2]] < 0.6);
    assert!(votes[1][[0, 1]] > 0.0 && votes[1][[0, 1]] < 1e-5);
    assert_eq!(model.predict(query.view())?.row(0), votes[1].row(0));
    let near = model.neighbours(query.view())?;
    assert_eq!(near.indices.row(0).to_vec(), [0, 1, 3, 2]);
    assert!((near.similarities[[0, 0]] - 1.0).abs() < 1e-6);
    Ok(())
}

#[test]
fn the_order_of_ks_is_kept() -> Outcome {
    let y = Targets::classes(vec![0, 1, 1, 2], 4)?;
    let model = Knn::new(&[3, 1]).fit(gallery().view(), &y)?;
    let votes = model.votes(gallery().view())?;
    assert!((votes[1][[0, 0]] - 1.0).abs() < 1e-6);
    assert!(votes[0][[0, 1]] > 0.1);
    assert_eq!(model.predict(gallery().view())?.dim(), (4, 4));
    Ok(())
}

#[test]
fn what_cannot_be_searched_is_named() -> Outcome {
    let x = gallery();
    let y = Targets::classes(vec![0, 1, 1, 0], 2)?;
    assert!(matches!(Knn::new(&[1, 5]).fit(x.view(), &y), Err(Error::TooFewRows { k: 5, rows: 4 })));
    assert!(matches!(Knn::new(&[0]).fit(x.view(), &y), Err(Error::Parameter { .. })));
    assert!(matches!(Knn::new(&[]).fit(x.view(), &y), Err(Error::Parameter { .. })));
    assert!(matches!(Knn::new(&[1]).with_temperature(0.0).fit(x.view(), &y), Err(Error::Parameter { .. })));
    assert!(matches!(
        Knn::new(&[1]).fit(x.view(), &Targets::classes(vec![0, 1], 2)?),
        Err(Error::Lengths { features: 4, targets: 2 })
    ));
    let bad = array![[1f32, 0.0], [f32::INFINITY, 0.0]];
    let two = Targets::classes(vec![0, 1], 2)?;
    let err = Knn::new(&[1]).fit(bad.view(), &two).map(|_| ()).unwrap_err();
    assert_eq!(err.to_string(), "training features: row 1 has a value that is not finite");
    let model = Knn::new(&[1]).fit(x.view(), &y)?;
    assert!(matches!(model.predict(bad.view()), Err(Error::NotFinite { row: 1, .. })));
    let none = Array2::zeros((0, 2));
    assert!(matches!(model.predict(none.view()), Err(Error::Empty { .. })));
    assert!(matches!(model.predict(Array2::zeros((1, 3)).view()), Err(Error::Shape { .. })));
    // rows without any length are like nothing, not an error
    assert!(model.predict(Array2::zeros((1, 2)).view()).is_ok());
    Ok(())
}
