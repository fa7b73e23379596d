//! Limited-memory BFGS for convex functions of linear models.

use std::collections::VecDeque;

/// A convex function whose change along a line is cheap once one matrix product is done.
pub(crate) trait Convex {
    /// Writes the gradient at the point kept inside.
    fn gradient(&mut self, gradient: &mut [f64]);
    /// Prepares for moves along `direction` from the point kept inside.
    fn aim(&mut self, direction: &[f64]);
    /// First and second derivative after a move of `step` along the direction aimed at.
    fn slope(&self, step: f64) -> (f64, f64);
    /// Moves there for good.
    fn advance(&mut self, step: f64);
    /// Multiplies by an approximation of the inverse Hessian, in place.
    fn precondition(&self, vector: &mut [f64]);
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    /// Largest absolute entry of the gradient.
    pub(crate) gradient: f64,
    pub(crate) iterations: usize,
}

/// How a search ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) iterations: usize,
    pub(crate) converged: bool,
}

/// Pairs of steps and gradient changes remembered.
const HISTORY: usize = 10;

/// Moves `function` to its minimum.
///
/// The line search solves for a zero of the slope with safeguarded Newton steps: it looks at
/// derivatives alone, so it works down to the last bits, where differences of values are noise.
///
/// # Source
/// Nocedal and Wright, *Numerical Optimization*, 2nd ed., algorithm 7.4.
pub(crate) fn minimise(function: &mut dyn Convex, size: usize, stop: Stop) -> Ended {
    let mut gradient = vec![0.0; size];
    let mut next = vec![0.0; size];
    let mut direction = vec![0.0; size];
    let mut pairs: VecDeque<Pair> = VecDeque::with_capacity(HISTORY);
    function.gradient(&mut gradient);
    for iteration in 0..stop.iterations {
        if largest(&gradient) <= stop.gradient {
            return Ended { iterations: iteration, converged: true };
        }
        direction.copy_from_slice(&gradient);
        two_loops(&pairs, &mut direction, function);
        direction.iter_mut().for_each(|d| *d = -*d);
        let mut downhill = dot(&direction, &gradient);
        if downhill.is_nan() || downhill >= 0.0 {
            // a history spoiled by rounding: start again from the preconditioned gradient
            pairs.clear();
            direction.copy_from_slice(&gradient);
            function.precondition(&mut direction);
            direction.iter_mut().for_each(|d| *d = -*d);
            downhill = dot(&direction, &gradient);
        }
        function.aim(&direction);
        let step = if downhill < 0.0 { line_search(function, downhill) } else { 0.0 };
        if step <= 0.0 {
            // as low as the arithmetic can see
            return Ended { iterations: iteration, converged: largest(&gradient) <= 1e3 * stop.gradient };
        }
        function.advance(step);
        function.gradient(&mut next);
        let change: Vec<f64> = next.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        direction.iter_mut().for_each(|d| *d *= step);
        let curvature = dot(&direction, &change);
        if curvature > 1e-300 && curvature.is_finite() {
            if pairs.len() == HISTORY {
                pairs.pop_front();
            }
            pairs.push_back(Pair { step: direction.clone(), change, curvature });
        }
        std::mem::swap(&mut gradient, &mut next);
    }
    Ended { iterations: stop.iterations, converged: largest(&gradient) <= stop.gradient }
}

struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    curvature: f64,
}

/// Replaces a gradient by the inverse-Hessian estimate times it.
fn two_loops(pairs: &VecDeque<Pair>, vector: &mut [f64], function: &dyn Convex) {
    let mut factors = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let a = dot(&pair.step, vector) / pair.curvature;
        vector.iter_mut().zip(&pair.change).for_each(|(v, y)| *v -= a * y);
        factors.push(a);
    }
    let scale = pairs.back().map(|pair| {
        let mut scaled = pair.change.clone();
        function.precondition(&mut scaled);
        pair.curvature / dot(&pair.change, &scaled)
    });
    function.precondition(vector);
    if let Some(scale) = scale.filter(|s| s.is_finite() && *s > 0.0) {
        vector.iter_mut().for_each(|v| *v *= scale);
    }
    for (pair, a) in pairs.iter().zip(factors.into_iter().rev()) {
        let b = dot(&pair.change, vector) / pair.curvature;
        vector.iter_mut().zip(&pair.step).for_each(|(v, s)| *v += (a - b) * s);
    }
}

/// The step at which the slope is a thousandth of the slope `start` at 0, or as near as it gets.
fn line_search(function: &dyn Convex, start: f64) -> f64 {
    let (mut low, mut high) = (0.0f64, f64::INFINITY);
    let mut step = 1.0f64;
    for _ in 0..60 {
        let (slope, curvature) = function.slope(step);
        if !slope.is_finite() {
            high = step;
            step = 0.5 * (low + high);
            continue;
        }
        if slope.abs() <= 1e-3 * start.abs() {
            return step;
        }
        if slope < 0.0 {
            low = step;
        } else {
            high = step;
        }
        let newton = step - slope / curvature;
        let middle = if high.is_finite() { 0.5 * (low + high) } else { 10.0 * step };
        // Newton within the bracket, and within a factor of ten while there is no upper end
        step = if newton > low && newton < high.min(10.0 * middle) { newton } else { middle };
        // without an upper end the difference is no distance
        if high.is_finite() && high - low <= 1e-15 * high {
            break;
        }
    }
    // `low` still goes downhill; without one nothing was gained
    low
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn largest(v: &[f64]) -> f64 {
    v.iter().fold(0.0, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x.abs()) })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A parabola along its line, lowest after so long a step; counts how often it is looked at.
    struct Parabola(f64, Cell<usize>);

    impl Convex for Parabola {
        fn gradient(&mut self, _: &mut [f64]) {}
        fn aim(&mut self, _: &[f64]) {}
        fn slope(&self, step: f64) -> (f64, f64) {
            self.1.set(self.1.get() + 1);
            (step - self.0, 1.0)
        }
        fn advance(&mut self, _: f64) {}
        fn precondition(&self, _: &mut [f64]) {}
    }

    /// Newton's step is exact on a parabola: the second look is at the minimum, unless that is over a
    /// hundred times the first step away, where one step of ten comes between.
    #[test]
    fn a_line_search_goes_straight_to_the_minimum_of_a_parabola() {
        for (lowest, looks) in [(1.0, 1), (0.25, 2), (3.0, 2), (90.0, 2), (110.0, 3)] {
            let parabola = Parabola(lowest, Cell::new(0));
            assert_eq!((line_search(&parabola, -lowest), parabola.1.get()), (lowest, looks));
        }
    }
}
