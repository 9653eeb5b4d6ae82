//! Load runs against real gateways and workers in this process, on the embedded back end.

mod load;
