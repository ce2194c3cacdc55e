//! The example of docs/recipes/object_store.md: the page shows the function below as it stands.

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, WriteMultipart};

use crate::clients::{builder, make_bucket};
use crate::server::Server;

const PAGE: &str = include_str!("../../../docs/recipes/object_store.md");
const THIS: &str = include_str!("recipe.rs");

// page
async fn example(settings: AmazonS3Builder) -> object_store::Result<()> {
    let store = settings.with_conditional_put(S3ConditionalPut::ETagMatch).build()?;

    let report = Path::from("reports/one.txt");
    store.put(&report, "all is well".into()).await?;
    assert_eq!(store.get(&report).await?.bytes().await?, "all is well");

    // Only the first of several writers gets through.
    let leader = Path::from("leader");
    store.put_opts(&leader, "node 1".into(), PutMode::Create.into()).await?;
    let second = store.put_opts(&leader, "node 2".into(), PutMode::Create.into()).await;
    assert!(matches!(second, Err(object_store::Error::AlreadyExists { .. })));

    // Large objects go up in parts.
    let mut upload = WriteMultipart::new(store.put_multipart(&Path::from("large")).await?);
    for _ in 0..20 {
        upload.write(&[7; 1_000_000]);
    }
    upload.finish().await?;
    assert_eq!(store.head(&Path::from("large")).await?.size, 20_000_000);
    Ok(())
}
// end of page

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_the_page_works() {
    let shown = THIS.split("// page\n").nth(1).unwrap().split("// end of page").next().unwrap();
    assert!(PAGE.contains(&format!("```rust\n{shown}```")), "docs/recipes/object_store.md shows something else");
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    make_bucket(&server, dir.path());
    example(builder(&server)).await.unwrap();
}
