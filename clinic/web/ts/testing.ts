// What tests reach into; no page loads it.

export * as bytes from "./bytes";
export * as call from "./call";
export * as cbor from "./cbor";
export * as charts from "./charts";
export * as cose from "./cose";
export * as grade from "./grade";
export * as invitation from "./invitation";
export * as path from "./path";
export * as peer from "./peer";
export * as proof from "./proof";
export * as record from "./record";
export * as sdp from "./sdp";
export * as series from "./series";
