//! Stream management (XEP-0198): counters, the queue of what is not acknowledged yet, resume.
