use std::collections::BTreeMap;

use logitfuse_core::Result;

/// A mean and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// How many scores.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// The standard error of the mean; `None` where it is unknown: of one score, or of one cluster.
    pub stderr: Option<f64>,
}

impl Summary {
    /// The mean and its standard error: the sample standard deviation (n − 1) by √n, as lm-eval computes it.
    /// `None` without scores.
    pub fn of(scores: &[f64]) -> Option<Self> {
        let (n, mean) = (scores.len(), mean(scores)?);
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        let stderr = (n > 1).then(|| (squares / (n - 1) as f64).sqrt() / (n as f64).sqrt());
        Some(Self { n, mean, stderr })
    }

    /// The same where scores of a cluster belong together, such as questions about one passage: cluster-robust, with the
    /// correction C / (C − 1) for C clusters. Every score in a cluster of its own gives [`Summary::of`].
    ///
    /// ```
    /// use logitfuse_metrics::statistics::Summary;
    ///
    /// let scores = [1.0, 1.0, 0.0, 0.0];
    /// let clustered = Summary::clustered(&scores, &["p", "p", "q", "q"])?.unwrap();
    /// // Two passages say less than four questions would.
    /// assert!(clustered.stderr > Summary::of(&scores).unwrap().stderr);
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`](logitfuse_core::ErrorKind::Incompatible) unless every score has a cluster.
    pub fn clustered<K: Ord>(scores: &[f64], clusters: &[K]) -> Result<Option<Self>> {
        super::same_items(scores.len(), clusters.len())?;
        let Some(mean) = mean(scores) else { return Ok(None) };
        let mut sums: BTreeMap<&K, f64> = BTreeMap::new();
        for (score, cluster) in scores.iter().zip(clusters) {
            *sums.entry(cluster).or_default() += score - mean;
        }
        let (n, count) = (scores.len(), sums.len() as f64);
        let squares: f64 = sums.values().map(|sum| sum.powi(2)).sum();
        let stderr = (sums.len() > 1).then(|| (squares * count / (count - 1.0)).sqrt() / n as f64);
        Ok(Some(Self { n, mean, stderr }))
    }
}

/// The mean; `None` of nothing.
pub(crate) fn mean(scores: &[f64]) -> Option<f64> {
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}
