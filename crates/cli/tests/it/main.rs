//! The real binary: started, driven from its own command line, stopped.
#![allow(clippy::disallowed_methods, reason = "real processes are waited for in real time")]
#![allow(clippy::print_stdout, reason = "seeds and measurements are printed for whoever runs them")]

mod across;
mod amqp;
mod backup;
mod bad_input;
mod bench;
mod clock_jump;
mod damage;
mod disk_full;
mod features;
mod features_operate;
mod features_queues;
mod features_routing;
mod features_topics;
mod harness;
mod http;
mod kill;
mod kill_amqp;
mod kill_grpc;
mod kill_ledger;
mod mounted;
mod operate;
mod power_cut;
mod power_cut_load;
mod power_cut_traced;
mod quickstart;
mod read_only;
mod scale;
mod serve;
mod syscalls;
mod trace;
mod work;
mod ws;
