//! The media suite, on both media.

use std::sync::Arc;

use stele_storage_node::media::conformance::run;
use stele_storage_node::media::file::{DirectIo, FileMedia};
use stele_storage_node::media::model::ModelDisk;

use crate::world::virtual_time;

#[test]
fn model_media_conform() {
    let disk = ModelDisk::new("model", 64 << 20, 1);
    virtual_time(run(|| disk.media())).unwrap();
}

#[test]
fn directories_conform_with_and_without_direct_io() {
    for direct in [DirectIo::Auto, DirectIo::Never] {
        let dir = tempfile::tempdir().unwrap();
        virtual_time(run(|| Arc::new(FileMedia::new(dir.path(), direct)))).unwrap();
    }
}

#[test]
fn a_file_system_without_direct_io_is_used_through_the_cache() {
    // tmpfs refuses or ignores O_DIRECT, depending on the kernel; both must work.
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
    virtual_time(run(|| Arc::new(FileMedia::new(dir.path(), DirectIo::Auto)))).unwrap();
}
