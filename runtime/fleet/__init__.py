"""A fleet: one adapter from the data of many, which stays where it is. Federated fine-tuning, on Flower (https://flower.ai).

settings     what a project's pyproject.toml says of a fleet, and a node of itself, checked
worker       a client's part of a round on this machine: from the common adapter to its own, by the loop of ``mesp train``
records      adapters as Flower's records, and what goes with them
client       the ClientApp: a message in, a worker's result out
strategies   Flower's strategies by their names, and the state that they carry from round to round
folder       a fleet's folder: the adapter after each round, and what each client did
ledger       what stands around a strategy: looks at every reply, and writes the folder
secure       rounds whose adapters the server sees only as their mean: Flower's SecAgg+
server       the ServerApp
project      what ``mesp fleet new`` writes
launch       what ``mesp fleet run`` starts
page         report.html of a fleet

Flower is an extra, mesp[fleet]: only records, client, strategies, ledger, secure, server and launch import it, and no other room imports them. A
phone's worker is the harness's (mesp.device.fleet).
"""
