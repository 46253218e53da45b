//! The sources here are the reference for `LogitSource`, so they obey every law to the bit.

use logitfuse_conformance::source_laws;
use logitfuse_core::numerics::{check_row, entropy, kl_divergence, log_sum_exp};
use logitfuse_core::{Error, ErrorKind, LogitSource, Result, Rows, Step, TokenId};
use logitfuse_replay::{PrefixModel, PrefixSource, ScriptedSource, SyntheticSource};

const A: [TokenId; 7] = [3, 1, 4, 1, 5, 9, 2];
const B: [TokenId; 4] = [3, 1, 6, 6];

/// The row after a text.
fn row(source: &mut dyn LogitSource, tokens: &[TokenId]) -> Result<Vec<f32>> {
    let (sequence, mut rows) = (source.open()?, Rows::new());
    source.forward(&[Step { sequence, tokens, rows: 1 }], &mut rows)?;
    source.close(sequence);
    Ok(rows.row(0).to_vec())
}

#[test]
fn every_source_obeys_the_laws() {
    let counts = |prefix: &[TokenId]| (0..10).map(|id| prefix.iter().filter(|&&t| t == id).count() as f32).collect();
    let listed = (0..20_u8).map(|i| vec![f32::from(i); 10]).collect();
    let sources: [Box<dyn LogitSource>; 4] = [
        Box::new(SyntheticSource::new("toy", 100, 1)),
        Box::new(SyntheticSource::new("relative", 100, 2).related_to(1, 0.7).sharpness(2.0).context_length(32)),
        Box::new(ScriptedSource::from_fn("counts", 10, counts)),
        Box::new(ScriptedSource::from_rows("listed", 10, listed)),
    ];
    for mut source in sources {
        source_laws::all(source.as_mut(), &A, &B, 0.0).unwrap();
        source_laws::all(source.as_mut(), &B, &A, 0.0).unwrap();
    }
}

#[test]
fn toy_rows_look_like_a_language_models() {
    let mut toy = SyntheticSource::new("toy", 5000, 1);
    let mut entropies = Vec::new();
    for first in 0..50 {
        let row = row(&mut toy, &[first, 2, 3]).unwrap();
        check_row(&row).unwrap();
        entropies.push(entropy(&row, log_sum_exp(&row)));
    }
    // Neither certain nor uniform (ln 5000 is 8.5), and not always the same.
    let mean = entropies.iter().sum::<f64>() / 50.0;
    assert!((1.0..5.0).contains(&mean), "{mean}");
    assert!(entropies.iter().any(|h| (h - mean).abs() > 0.2));
}

#[test]
fn the_order_and_the_number_of_tokens_matter() {
    let mut toy = SyntheticSource::new("toy", 50, 1);
    let texts: [&[TokenId]; 5] = [&[1, 2], &[2, 1], &[0, 1, 2], &[1, 2, 0], &[1, 2, 0, 0]];
    let rows: Vec<Vec<f32>> = texts.iter().map(|text| row(&mut toy, text).unwrap()).collect();
    for (i, a) in rows.iter().enumerate() {
        for b in &rows[..i] {
            assert_ne!(a, b);
        }
    }
}

#[test]
fn relatives_come_closer_with_their_share() {
    let mut original = SyntheticSource::new("original", 1000, 1);
    let divergences = [0.0, 0.3, 0.6, 0.9, 1.0].map(|share| {
        let mut relative = SyntheticSource::new("relative", 1000, 2).related_to(1, share);
        let texts = (0..20).map(|first| [first, 8, 9]);
        let kl = texts.map(|text| {
            let (p, q) = (row(&mut original, &text).unwrap(), row(&mut relative, &text).unwrap());
            kl_divergence(&p, log_sum_exp(&p), &q, log_sum_exp(&q))
        });
        kl.sum::<f64>()
    });
    assert!(divergences.windows(2).all(|pair| pair[1] < pair[0]), "{divergences:?}");
    assert!(divergences[4] < 1e-9);
}

#[test]
fn errors_name_the_source_and_say_what_to_do() {
    let mut toy = SyntheticSource::new("toy", 10, 1).context_length(3).end_of_sequence([2, 5]);
    assert_eq!(toy.info().end_of_sequence, [2, 5]);
    let overflow = row(&mut toy, &[1; 4]).unwrap_err();
    assert_eq!(overflow.kind(), ErrorKind::ContextOverflow);
    assert_eq!(overflow.to_string(), "toy: 4 tokens do not fit into a context of 3");
    let foreign = row(&mut toy, &[1, 10]).unwrap_err();
    assert_eq!(foreign.to_string(), "toy: token 10 is not below the 10 ids of this source");
    assert!(overflow.help().is_some() && foreign.help().is_some());

    let mut short = ScriptedSource::from_fn("short", 4, |_| vec![0.0; 3]);
    let error = row(&mut short, &[0]).unwrap_err();
    assert_eq!(error.to_string(), "short: the scripted row after 1 tokens has 3 entries, not 4");

    let mut listed = ScriptedSource::from_rows("listed", 2, vec![vec![0.0; 2]]);
    assert_eq!(row(&mut listed, &[0, 0]).unwrap_err().kind(), ErrorKind::ContextOverflow);
}

#[test]
fn a_model_that_fails_in_the_middle_of_a_batch_changes_nothing() {
    struct FailsAfterThree;
    impl PrefixModel for FailsAfterThree {
        fn row(&mut self, prefix: &[TokenId], out: &mut [f32]) -> Result<()> {
            out.fill(0.0);
            if prefix.len() > 3 { Err(Error::new(ErrorKind::Backend, "out of paper")) } else { Ok(()) }
        }
    }
    let mut source = PrefixSource::with_model("paper", 9, FailsAfterThree);
    let (a, b, mut rows) = (source.open().unwrap(), source.open().unwrap(), Rows::new());
    let batch = [Step { sequence: a, tokens: &[1, 2], rows: 2 }, Step { sequence: b, tokens: &[1, 2, 3, 4], rows: 4 }];
    assert_eq!(source.forward(&batch, &mut rows).unwrap_err().to_string(), "paper: out of paper");
    assert_eq!((source.len(a), source.len(b)), (Some(0), Some(0)));
    source.forward(&batch[..1], &mut rows).unwrap();
    assert_eq!(source.tokens(a), Some(&[1, 2][..]));
}
