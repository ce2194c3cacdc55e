//! Tests of whole bundles.

mod anchors;
mod damage;
mod erasures;
mod forgery;
mod golden;
mod judgement;
mod lies;
mod stamps;
