"""The reconciler: snapshot -> plan -> act, on events and on a timer; and the operations that users ask for."""
