//! Which of equal scores PyTorch's `topk` takes.
//!
//! On the CPU it runs libstdc++'s `nth_element`, which is not stable: among equal scores at the
//! border the pick depends on its swaps. To give torchmetrics' numbers on tied scores the same
//! swaps are made here.

/// Indices of the `k` largest scores, `1 <= k <= scores.len()`, in no particular order.
pub(crate) fn torch_top_k(scores: &[f64], k: usize) -> Vec<usize> {
    let mut queue: Vec<usize> = (0..scores.len()).collect();
    if 64 * k <= scores.len() {
        // torch takes another algorithm here; ties go to the lowest index
        queue.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    } else {
        nth_element(&mut queue, k - 1, |a, b| scores[a] > scores[b]);
    }
    queue.truncate(k);
    queue
}

/// `std::nth_element` of libstdc++: `before` says that its first argument comes first.
fn nth_element(v: &mut [usize], nth: usize, before: impl Fn(usize, usize) -> bool) {
    let (mut first, mut last) = (0, v.len());
    let mut depth = 2 * v.len().max(1).ilog2();
    while last - first > 3 {
        if depth == 0 {
            v[first..last].sort_by(|a, b| before(*b, *a).cmp(&before(*a, *b)));
            return;
        }
        depth -= 1;
        let cut = partition(v, first, last, &before);
        if cut <= nth { first = cut } else { last = cut }
    }
    // insertion sort is stable
    v[first..last].sort_by(|a, b| before(*b, *a).cmp(&before(*a, *b)));
}

/// Partition of `[first, last)` about the median of three, which moves to `first`.
fn partition(v: &mut [usize], first: usize, last: usize, before: &impl Fn(usize, usize) -> bool) -> usize {
    let (a, b, c) = (first + 1, first + (last - first) / 2, last - 1);
    let median = if before(v[a], v[b]) {
        if before(v[b], v[c]) {
            b
        } else if before(v[a], v[c]) {
            c
        } else {
            a
        }
    } else if before(v[a], v[c]) {
        a
    } else if before(v[b], v[c]) {
        c
    } else {
        b
    };
    v.swap(first, median);
    let pivot = v[first];
    let (mut low, mut high) = (first + 1, last);
    // the median of three stops both loops inside the range
    loop {
        while before(v[low], pivot) {
            low += 1;
        }
        high -= 1;
        while before(pivot, v[high]) {
            high -= 1;
        }
        if low >= high {
            return low;
        }
        v.swap(low, high);
        low += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_taken_as_torch_takes_them() {
        // torch 2.15: torch.tensor(row).topk(k).indices
        for (row, k, want) in [
            (vec![0.5, 0.1, 0.2, 0.2, 0.0, 0.0], 2, vec![0, 3]),
            (vec![0.2, 0.1, 0.2, 0.0, 0.3, 0.2], 2, vec![2, 4]),
            (vec![0.1, 0.0, 0.0, 0.1, 0.6, 0.1], 2, vec![3, 4]),
            (vec![0.1, 0.7, 0.0, 0.2, 0.0, 0.0], 5, vec![0, 1, 2, 3, 5]),
            (vec![0.0, 0.1, 0.0, 0.0, 0.1, 0.8], 5, vec![1, 2, 3, 4, 5]),
        ] {
            let mut got = torch_top_k(&row, k);
            got.sort_unstable();
            assert_eq!(got, want, "{row:?}");
        }
    }

    #[test]
    fn the_largest_are_always_taken() {
        for n in 1..200usize {
            let scores: Vec<f64> = (0..n).map(|i| ((i * 7919) % 31) as f64).collect();
            for k in 1..=n {
                let mut got: Vec<f64> = torch_top_k(&scores, k).iter().map(|i| scores[*i]).collect();
                got.sort_unstable_by(|a, b| b.total_cmp(a));
                let mut want = scores.clone();
                want.sort_unstable_by(|a, b| b.total_cmp(a));
                want.truncate(k);
                assert_eq!(got, want, "{n} {k}");
            }
        }
    }
}
