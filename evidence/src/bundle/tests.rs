//! Tests of whole bundles.

mod anchors;
mod damage;
mod forgery;
mod golden;
mod judgement;
mod lies;
mod stamps;
