//! Weights in files that they should not be in.

use std::{fs, path::Path};

use logitfuse_core::ErrorKind;
use logitfuse_onnx_graph::{Model, Outline, proto};
use proto::Tensor;

use crate::{
    assert_said, graph,
    models::{content, external},
    saved,
};

/// What `files` sees in a folder with weights of 64 bytes.
#[track_caller]
fn refused_weights(entries: &[(&str, &str)], elements: usize, kind: ErrorKind, words: &str) {
    for nested in [false, true] {
        let (folder, path) = saved(|model| {
            let far = external("far", elements, entries);
            if nested {
                graph(model).node[0].attribute[0].t = Some(Box::new(far));
            } else {
                graph(model).initializer.push(far);
            }
        });
        fs::write(folder.path().join("weights"), [7; 64]).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let error = Model::open(&path).unwrap_err();
        assert_said(&error);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn external_data_elsewhere_are_refused() {
    let here = std::env::current_exe().unwrap();
    let absolute = here.to_str().unwrap();
    for location in ["../weights", "folder/../../weights", "folder/../weights", "/dev/zero", "/etc/passwd", absolute] {
        refused_weights(&[("location", location)], 16, ErrorKind::InvalidData, "lies outside of the model's folder");
    }
    for location in [".", "", "folder", "./folder"] {
        refused_weights(&[("location", location)], 16, ErrorKind::InvalidData, "are no regular file");
    }
    for location in ["nothing", "we\0ights", "folder/weights", "weights/weights", "*/_ORT_MEM_ADDR_/*"] {
        refused_weights(&[("location", location)], 16, ErrorKind::NotFound, "is missing");
    }
    refused_weights(&[("offset", "0")], 16, ErrorKind::InvalidData, "external data of `far`: name no file");
}

#[test]
fn external_data_that_are_not_there_are_refused() {
    let at = |offset, length| [("location", "weights"), ("offset", offset), ("length", length)];
    let wrong = ErrorKind::InvalidData;
    refused_weights(&at("1", "64"), 16, wrong, "`weights` has 64 of 65 bytes");
    refused_weights(&at("9223372036854775808", "64"), 16, wrong, "`weights` has 64 of");
    refused_weights(&at("18446744073709551615", "64"), 16, wrong, "a length overflows");
    refused_weights(&at("0", "60"), 16, wrong, "needs 64 bytes and has 60");
    for text in ["-1", "", "0x10", "1e3", " 0", "18446744073709551616"] {
        refused_weights(&at(text, "64"), 16, wrong, "is no number");
    }
    // Without a length it is what the shape needs.
    refused_weights(&[("location", "weights")], 17, wrong, "`weights` has 64 of 68 bytes");
    let twice = [("location", "weights"), ("location", "../weights")];
    refused_weights(&twice, 16, wrong, "external data of `far`: name `location` twice");
    let (_folder, path) = saved(|model| graph(model).initializer[1].data_location = Some(7));
    let error = Model::open(&path).unwrap_err();
    assert!(error.to_string().contains("external data of `large`: lie in a place of unknown kind 7"), "{error}");
}

#[test]
fn external_data_in_bodies_and_attributes_travel_with_the_model() {
    let (folder, path) = saved(|model| {
        let far = external("", 12, &[("location", "weights")]);
        graph(model).node[0].attribute[0].t = Some(Box::new(far));
        let far = external("inner", 3, &[("location", "weights"), ("offset", "48")]);
        graph(model).node[2].attribute[0].g.as_mut().unwrap().initializer = vec![far];
    });
    let bytes: Vec<u8> = (0..64).collect();
    fs::write(folder.path().join("weights"), &bytes).unwrap();
    let files = Outline::read(&path).unwrap().external_files(&path).unwrap();
    assert_eq!(files.iter().map(|file| (&*file.location, file.bytes)).collect::<Vec<_>>(), [("weights", 64)]);
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("model.onnx");
    Model::open(&path).unwrap().save(&target).unwrap();
    let again = Model::open(&target).unwrap();
    let node = &again.graph().node;
    assert_eq!(node[0].attribute[0].t.as_ref().unwrap().raw_data.as_deref(), Some(&bytes[..48]));
    let inner = &node[2].attribute[0].g.as_ref().unwrap().initializer[0];
    assert_eq!(inner.raw_data.as_deref(), Some(&bytes[48..60]));
    assert!(again.validate().is_ok() && fs::read_dir(elsewhere.path()).unwrap().count() == 1);
}

/// Every tensor the same gigabyte but for some bytes: a file of kilobytes that is petabytes once it is copied.
#[test]
fn weights_that_overlap_are_refused() {
    let (folder, path) = saved(|model| {
        let places = (0..2000).map(|n| {
            let (offset, spelling) = ((4 * n).to_string(), "./".repeat(n % 50) + "weights");
            let far = external(&format!("w{n}"), 0, &[("location", &spelling), ("offset", &offset)]);
            Tensor { dims: vec![(1 << 28) - 2000], ..far }
        });
        graph(model).initializer.extend(places);
    });
    // Takes no space: nothing is written.
    fs::File::create(folder.path().join("weights")).unwrap().set_len(1 << 30).unwrap();
    let error = Model::open(&path).unwrap_err();
    assert_said(&error);
    assert!(error.to_string().contains("holds weights that overlap"), "{error}");
}

/// Tied weights are two tensors of the same bytes, and stay that.
#[test]
fn weights_of_one_place_are_copied_once() {
    let (folder, path) = saved(|model| {
        let tied = |name| external(name, 4096, &[("location", "weights")]);
        graph(model).initializer.extend([tied("embedding"), tied("head")]);
    });
    fs::write(folder.path().join("weights"), vec![3; 4 * 4096]).unwrap();
    let target = folder.path().join("target.onnx");
    let model = Model::open(&path).unwrap();
    model.save_embedding(&target, 0).unwrap();
    assert_eq!(content(&Model::open(&target).unwrap()), content(&model));
    // The other large tensor is before them, and each begins at a page.
    assert_eq!(fs::metadata(folder.path().join("target.onnx_data")).unwrap().len(), (1 << 16) + 4 * 4096);
}

#[cfg(unix)]
type Make<'a> = &'a dyn Fn(&Path);

#[cfg(unix)]
#[test]
fn pipes_devices_and_links_elsewhere_are_refused() {
    use std::os::unix::fs::symlink;
    let pipe = |path: &Path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), [1; 64]).unwrap();
    let far = |model: &mut proto::Model| {
        graph(model).initializer.push(external("far", 16, &[("location", "weights")]));
    };
    let cases: [(&str, Make<'_>); 5] = [
        ("are no regular file", &pipe),
        ("are no regular file", &|at| symlink("/dev/zero", at).unwrap()),
        ("are no regular file", &|at| symlink(".", at).unwrap()),
        ("is missing", &|at| symlink("weights", at).unwrap()),
        ("is a link that leads outside", &|at| symlink(secret.path(), at).unwrap()),
    ];
    for (words, make) in cases {
        let (folder, path) = saved(far);
        make(&folder.path().join("weights"));
        let error = Model::open(&path).unwrap_err();
        assert_said(&error);
        assert!(error.to_string().contains(words), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    pipe(&path);
    for error in [Model::open(&path).unwrap_err(), Outline::read(&path).unwrap_err()] {
        assert!(error.to_string().contains("is no regular file"), "{error}");
    }
    // A folder behind a link is outside, too.
    let (folder, path) = saved(|model| {
        graph(model).initializer.push(external("far", 16, &[("location", "sub/weights")]));
    });
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("weights"), [1; 64]).unwrap();
    symlink(elsewhere.path(), folder.path().join("sub")).unwrap();
    assert!(Model::open(&path).unwrap_err().to_string().contains("is a link that leads outside"));
    // What only looks follows links, as ONNX Runtime of some versions does.
    assert_eq!(Outline::read(&path).unwrap().external_files(&path).unwrap().len(), 1);
}

#[test]
fn a_file_that_was_replaced_since_is_not_read() {
    let (_folder, path) = saved(|_| {});
    let model = Model::open(&path).unwrap();
    // Of the same size, and the weights at the same place.
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let large = model.initializers.iter().find(|tensor| tensor.name() == "large").unwrap();
    let target = path.with_file_name("target.onnx");
    for error in [large.bytes().unwrap_err(), model.save(&target).unwrap_err(), model.save_linked(&target).unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("model.onnx: was changed since it was opened"), "{error}");
    }
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing was left behind");
}
